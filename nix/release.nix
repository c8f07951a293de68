# The release program, and the bundles of every version beside it: a rehearsal needs the old version too,
# and the package of the hook.
{ pkgs, cargo, hook, versions }:
rec {
  bare = cargo.build {
    name = "serein-release-bare";
    package = "release";
    paths = [ "src/oci/src" "src/release/src" "src/rollout/src" "src/stage/src" ];
    from = cargo.releaseDependencies;
  };

  # A directory of bundles, as `release --bundles` reads it: bundles/2.0.0/bundle.json, bundles/hook.zip. The links are
  # relative, here and below, for a store that lies elsewhere than /nix/store (nix/host/settings).
  bundles = pkgs.runCommand "serein-bundles" { } ''
    mkdir "$out"
    ${pkgs.lib.concatMapStringsSep "\n" (bundle: ''ln -s ../$(basename ${bundle}) "$out/${bundle.version}"'') versions}
    ln -s ../$(basename ${hook}) "$out/hook.zip"
  '';

  program = pkgs.runCommand "serein-release" { } ''
    mkdir -p "$out/bin"
    {
      echo '#!/bin/sh'
      echo 'store=$(dirname "$(readlink -f "$0")")/../..'
      echo 'export SEREIN_BUNDLES="''${SEREIN_BUNDLES:-$store/'$(basename ${bundles})'}"'
      echo 'PATH="$PATH:${pkgs.lib.makeBinPath [ pkgs.postgresql ]}"'
      echo 'exec "$store/'$(basename ${bare})'/bin/release" "$@"'
    } >"$out/bin/release"
    chmod +x "$out/bin/release"
  '';
}
