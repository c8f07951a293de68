# The image of one version: an OCI archive, which is the derivation's only file.
{ pkgs, oci, app, version, created, ... }:
pkgs.runCommand "serein-image-${version}.tar" { } ''
  ${oci}/bin/oci image --app ${app}/bin/app --version ${version} --created ${toString created} --out "$out"
''
