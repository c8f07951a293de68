# `nix develop`: what ./check needs, at the versions of the pin.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.cargo pkgs.clippy pkgs.rustc pkgs.rustfmt pkgs.cargo-nextest
    pkgs.postgresql pkgs.skopeo pkgs.umoci pkgs.runc pkgs.awscli2 pkgs.shellcheck
  ];
}
