# The packer of images and bundles: bin/oci.
{ cargo }:
cargo.build {
  name = "serein-oci";
  package = "oci";
  paths = [ "src/oci/src" ];
  from = cargo.appDependencies;
}
