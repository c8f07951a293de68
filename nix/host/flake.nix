{
  description = "This machine's own toolchain in the place of nixpkgs";

  # Both are made and named by nix/host/prepare.
  inputs = {
    rust = { url = "path:/nonexistent"; flake = false; };
    crates = { url = "path:/nonexistent"; flake = false; };
  };

  outputs = { self, rust, crates }: {
    legacyPackages = builtins.listToAttrs (map
      (system: { name = system; value = import ./packages.nix { inherit system rust crates; }; })
      [ "x86_64-linux" "aarch64-linux" ]);
  };
}
