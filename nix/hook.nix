# The hook as Lambda takes it: a zip, which is the derivation's only file.
{ pkgs, cargo, oci }:
let
  program = cargo.build {
    name = "serein-hook";
    package = "hook";
    paths = [ "src/hook/src" "src/rollout/src" ];
    from = cargo.hookDependencies;
  };
in
pkgs.runCommand "serein-hook.zip" { passthru = { inherit program; }; } ''
  ${oci}/bin/oci function --bootstrap ${program}/bin/hook --out "$out"
''
