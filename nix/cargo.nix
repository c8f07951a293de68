# How cargo runs inside Nix: offline, locked, with the dependencies compiled once.
#
# `build` makes one package's binaries. It starts from `dependencies`: the target directory that
# is left when every dependency has been compiled and the workspace's own crates are empty files.
# That derivation changes with Cargo.lock, the manifests and the compiler only; so an edit, and each
# further version of the app, compiles our own crates and nothing else.
#
# Everything is linked statically (glibc), for the app's image holds no libraries. Paths that would
# reach a binary are mapped to the same names that nix/host/bundles uses outside of Nix.
{ pkgs, system }:
let
  inherit (pkgs) lib;
  root = ../.;
  triple = "${lib.removeSuffix "-linux" system}-unknown-linux-gnu";
  crates = pkgs.rustPlatform.importCargoLock { lockFile = ../Cargo.lock; };

  manifest = path: builtins.fromTOML (builtins.readFile (root + "/${path}/Cargo.toml"));
  members = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.members;
  manifests = [ ".cargo" "Cargo.toml" "Cargo.lock" ] ++ map (member: "${member}/Cargo.toml") members;

  # The part of the tree that the named files and directories make up.
  sources = paths: builtins.path {
    name = "serein-source";
    path = root;
    filter = path: type:
      let name = lib.removePrefix "${toString root}/" (toString path); in
      builtins.any
        (wanted: name == wanted || lib.hasPrefix "${wanted}/" name
          || (type == "directory" && lib.hasPrefix "${name}/" wanted))
        paths;
  };

  # The files without which cargo refuses a workspace: the root of each target that it finds or
  # that a manifest names.
  roots = builtins.concatMap
    (member:
      let
        named = kind: directory: builtins.concatMap
          (target: [ (target.path or "${directory}/${target.name}.rs") "${directory}/${target.name}/main.rs" ])
          ((manifest member).${kind} or [ ]);
        directory = root + "/${member}/src/bin";
        bins = if builtins.pathExists directory then builtins.attrNames (builtins.readDir directory) else [ ];
        candidates = [ "build.rs" "src/lib.rs" "src/main.rs" ]
          ++ builtins.concatMap (bin: [ "src/bin/${bin}" "src/bin/${bin}/main.rs" ]) bins
          ++ named "bin" "src/bin" ++ named "bench" "benches" ++ named "test" "tests" ++ named "example" "examples";
      in
      builtins.filter (file: lib.hasSuffix ".rs" file && builtins.pathExists (root + "/${file}"))
        (map (file: "${member}/${file}") candidates))
    members;

  # A derivation that runs `script` with cargo at hand in a workspace of `paths` and, for the rest, empty crates.
  run = { name, paths ? [ ], script }: pkgs.stdenv.mkDerivation {
    inherit name roots;
    source = sources (manifests ++ paths);
    nativeBuildInputs = [ pkgs.cargo pkgs.rustc pkgs.rustfmt ];
    buildInputs = [ pkgs.glibc.static ];
    buildCommand = ''
      export HOME="$NIX_BUILD_TOP/home" LC_ALL=C SOURCE_DATE_EPOCH=1
      export CARGO_HOME="$HOME/cargo" CARGO_TARGET_DIR="$NIX_BUILD_TOP/target"
      mkdir -p "$CARGO_HOME" "$CARGO_TARGET_DIR" "$NIX_BUILD_TOP/source"
      cd "$NIX_BUILD_TOP/source"

      printf '%s\n' '[source.crates-io]' 'replace-with = "vendored"' \
        '[source.vendored]' 'directory = "${crates}"' >"$CARGO_HOME/config.toml"
      unit=$(printf '\037')
      export CARGO_ENCODED_RUSTFLAGS="-Ctarget-feature=+crt-static$unit--remap-path-prefix=$PWD=/build/source$unit--remap-path-prefix=${crates}=/build/vendor"
      export TARGET_CFLAGS="-ffile-prefix-map=$CARGO_TARGET_DIR=/build/target -ffile-prefix-map=${crates}=/build/vendor"

      for file in $roots; do
        mkdir -p "$(dirname "$file")"
        echo '#![allow(warnings)] fn main() {}' >"$file"
      done
      cp -r --no-preserve=mode,timestamps "$source/." .

      build() {
        cargo build --locked --offline --jobs "$NIX_BUILD_CORES" --release --target ${triple} "$@"
      }
      ${script}
    '';
  };

  # The compiled dependencies of some packages, as a target directory. `from` is another one to start from.
  # One cargo run a package: together they would agree on features that each alone does not have.
  dependencies = { name, packages, from ? null }: run {
    name = "serein-${name}-dependencies";
    script = ''
      ${lib.optionalString (from != null) (start from)}
      ${lib.concatMapStringsSep "\n" (package: "build --package ${package}") packages}
      # What is ours was empty: it must not be taken for the real thing.
      cargo clean --offline --release --target ${triple} ${lib.concatMapStringsSep " " (m: "--package ${(manifest m).package.name}") members}
      mv "$CARGO_TARGET_DIR" "$out"
    '';
  };
  # Times are kept (the store sets all to the same second): cargo compares them.
  start = target: ''
    cp -r --preserve=mode,timestamps ${target}/. "$CARGO_TARGET_DIR"
    chmod -R u+w "$CARGO_TARGET_DIR"
  '';
in
rec {
  inherit run;

  # Three steps, for the app and the packer must not wait for SDKs, nor the hook for those that only
  # `release` knows.
  appDependencies = dependencies { name = "app"; packages = [ "app" "oci" ]; };
  hookDependencies = dependencies { name = "hook"; packages = [ "hook" ]; from = appDependencies; };
  releaseDependencies = dependencies { name = "release"; packages = [ "release" ]; from = hookDependencies; };

  build = { name, package, paths, from, flags ? "" }: run {
    inherit name paths;
    script = ''
      ${start from}
      build --package ${package} ${flags}
      mkdir -p "$out/bin"
      cp "$CARGO_TARGET_DIR/${triple}/release/${package}" "$out/bin/"
    '';
  };
}
