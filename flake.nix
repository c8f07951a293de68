{
  description = "serein: canary and blue/green releases on ECS, rehearsed on this machine first";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  # A table of contents for nix/. Machines without nixpkgs put nix/host in its place (docs/nix.md).
  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      eachSystem = f: builtins.listToAttrs (map (system: { name = system; value = f (serein system); }) systems);

      # The versions of the demo application are the features of its crate: "v2_0_0" -> "2_0_0".
      versions = map (builtins.substring 1 100) (builtins.filter (feature: feature != "default")
        (builtins.attrNames (builtins.fromTOML (builtins.readFile ./src/app/Cargo.toml)).features));

      serein = system: rec {
        pkgs = nixpkgs.legacyPackages.${system};
        cargo = import ./nix/cargo.nix { inherit pkgs system; };
        oci = import ./nix/oci.nix { inherit cargo; };
        each = prefix: f: builtins.listToAttrs (map (v: { name = "${prefix}-${v}"; value = f v; }) versions);
        dotted = builtins.replaceStrings [ "_" ] [ "." ];
        name = (builtins.fromTOML (builtins.readFile ./release/release.toml)).application.name;
        revision = self.rev or pkgs.sereinRevision or "dirty";
        created = self.lastModified or 0;

        apps = each "app" (v: import ./nix/app.nix { inherit cargo; feature = "v${v}"; version = dotted v; });
        images = each "image" (v: import ./nix/image.nix {
          inherit pkgs oci name revision created; app = apps."app-${v}"; version = dotted v;
        });
        bundles = each "bundle" (v: import ./nix/bundle.nix {
          inherit pkgs oci name revision; app = apps."app-${v}"; image = images."image-${v}"; version = dotted v;
        });
        hook = import ./nix/hook.nix { inherit pkgs cargo oci; };
        release = import ./nix/release.nix { inherit pkgs cargo hook; versions = builtins.attrValues bundles; };
      };
    in
    {
      packages = eachSystem (s: s.apps // s.images // s.bundles // {
        inherit (s) oci;
        inherit (s.release) bundles;
        hook-zip = s.hook;
        release = s.release.program;
        default = s.release.program;
      });
      apps = eachSystem (s: rec {
        release = { type = "app"; program = "${s.release.program}/bin/release"; };
        default = release;
      });
      devShells = eachSystem (s: { default = import ./nix/shell.nix { inherit (s) pkgs; }; });
      checks = eachSystem (s: import ./nix/checks.nix { inherit (s) pkgs cargo oci bundles hook release; });
    };
}
