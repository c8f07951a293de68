# What `nix flake check` builds, beside evaluating everything.
{ pkgs, cargo, oci, bundles, hook, release }:
bundles // {
  hook-zip = hook;
  release = release.program;

  formatting = cargo.run {
    name = "serein-formatting";
    paths = [ "src" ];
    script = ''
      cargo fmt --all --check
      touch "$out"
    '';
  };
}
