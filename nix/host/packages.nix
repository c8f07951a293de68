# The few attributes of nixpkgs that nix/ uses, made of what a Debian machine has: its C toolchain
# and shell in /usr (which the sandbox is told to show), a Rust toolchain and crates from the store.
#
# It is a second toolchain, not the pinned one: what it builds is equal to itself when built again,
# not to what nixpkgs builds. `rust` holds the names of the C toolchain's packages too (see
# nix/host/prepare), so that an upgrade of these builds everything anew.
{ system, rust, crates }:
let
  lib = {
    concatMapStringsSep = separator: f: list: builtins.concatStringsSep separator (map f list);
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    hasSuffix = suffix: text: lib.removeSuffix suffix text + suffix == text;
    makeBinPath = lib.concatMapStringsSep ":" (package: "${package}/bin");
    optionalString = condition: text: if condition then text else "";
    removePrefix = prefix: text:
      if lib.hasPrefix prefix text
      then builtins.substring (builtins.stringLength prefix) (builtins.stringLength text) text
      else text;
    removeSuffix = suffix: text:
      let length = builtins.stringLength text - builtins.stringLength suffix; in
      if length >= 0 && builtins.substring length (builtins.stringLength text) text == suffix
      then builtins.substring 0 length text
      else text;
  };

  # The environment that `nix develop` and a builder share.
  path = packages: "${lib.makeBinPath (packages ++ [ rust ])}:/usr/local/bin:/usr/bin:/bin";

  mkDerivation = { name, buildCommand, nativeBuildInputs ? [ ], ... } @ attrs:
    derivation ((removeAttrs attrs [ "buildInputs" "nativeBuildInputs" "passthru" ]) // {
      inherit system;
      builder = "/bin/bash";
      # The last statement is a real one: a builder that ends in a bare `cp` was seen to be killed.
      args = [ "-euo" "pipefail" "-c" "eval \"$buildCommand\"; exit 0" ];
      PATH = path nativeBuildInputs;
    }) // (attrs.passthru or { });

  # What the machine has, or ./check installs, by its name in nixpkgs.
  machine = builtins.listToAttrs (map (name: { inherit name; value = "/usr"; })
    [ "awscli2" "cargo-nextest" "postgresql" "runc" "shellcheck" "skopeo" "umoci" ]);
in
machine // {
  inherit lib;
  stdenv = { inherit mkDerivation; };
  runCommand = name: attrs: buildCommand: mkDerivation (attrs // { inherit name buildCommand; });
  mkShell = { packages ? [ ], ... }: mkDerivation {
    name = "nix-shell";
    nativeBuildInputs = packages;
    outputs = [ "out" ]; # `nix develop` asks for it by name
    buildCommand = "touch $out";
  };

  # Not of nixpkgs: the commit that is built, or "dirty".
  sereinRevision = lib.removeSuffix "\n" (builtins.readFile ./revision);

  cargo = rust;
  clippy = rust;
  rustc = rust;
  rustfmt = rust;
  rustPlatform.importCargoLock = { lockFile }: crates;
  glibc.static = "/usr";
}
