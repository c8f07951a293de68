# One version of the demo application: a static binary, bin/app.
{ cargo, feature, version }:
cargo.build {
  name = "serein-app-${version}";
  package = "app";
  paths = [ "src/app/src" "migrations" ".sqlx" ];
  from = cargo.appDependencies;
  flags = "--no-default-features --features ${feature}";
}
