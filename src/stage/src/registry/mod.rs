//! The image registry: the OCI distribution protocol under `/v2/`.
