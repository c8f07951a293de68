# What is released: the image, the templates and the migrations of one version, and bundle.json.
{ pkgs, oci, app, image, name, version, revision }:
let
  migrations = builtins.path { path = ../migrations; name = "migrations"; };
  release = builtins.path { path = ../release; name = "release"; };
in
pkgs.runCommand "serein-bundle-${version}" { nativeBuildInputs = [ pkgs.rustc ]; passthru = { inherit version; }; } ''
  sh ${./shipped-migrations} ${app}/bin/app ${migrations} shipped
  ${oci}/bin/oci bundle --image ${image} --name ${name} --version ${version} --revision ${revision} \
    --templates ${release}/templates --release-toml ${release}/release.toml --migrations shipped \
    --tool rustc="$(rustc --version | cut -d ' ' -f 2)" --out "$out"
''
