# What is released: the image, the templates and the migrations of one version, and bundle.json.
{ pkgs, oci, image, version, revision, ... }:
let
  migrations = builtins.path { path = ../migrations; name = "migrations"; };
  release = builtins.path { path = ../release; name = "release"; };
in
pkgs.runCommand "serein-bundle-${version}" { inherit version; } ''
  ${oci}/bin/oci bundle --image ${image} --version ${version} --revision ${revision} \
    --migrations ${migrations} --release ${release} --out "$out"
''
