# The image of one version: an OCI archive, which is the derivation's only file.
{ pkgs, oci, app, name, version, revision, created }:
pkgs.runCommand "serein-image-${version}.tar" { } ''
  ${oci}/bin/oci image --app ${app}/bin/app --name ${name} --version ${version} \
    --revision ${revision} --created ${toString created} --out "$out"
''
