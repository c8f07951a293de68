# The release program, and the bundles of every version beside it: a rehearsal needs the old version too.
{ pkgs, cargo, bundles }:
rec {
  bare = cargo.build {
    name = "serein-release-bare";
    package = "release";
    paths = [ "src/oci/src" "src/release/src" "src/rollout/src" "src/stage/src" ];
    from = cargo.releaseDependencies;
  };

  # A directory of bundles, as `release --bundles` reads it: bundles/2.0.0/bundle.json.
  bundles = pkgs.runCommand "serein-bundles" { } ''
    mkdir "$out"
    ${pkgs.lib.concatMapStringsSep "\n" (bundle: ''ln -s ${bundle} "$out/${bundle.version}"'') bundles}
  '';

  program = pkgs.runCommand "serein-release" { } ''
    mkdir -p "$out/bin"
    {
      echo '#!/bin/sh'
      echo 'export SEREIN_BUNDLES="''${SEREIN_BUNDLES:-${bundles}}"'
      echo 'PATH="$PATH:${pkgs.lib.makeBinPath [ pkgs.postgresql ]}"'
      echo 'exec ${bare}/bin/release "$@"'
    } >"$out/bin/release"
    chmod +x "$out/bin/release"
  '';
}
