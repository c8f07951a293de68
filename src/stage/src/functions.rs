//! Hook functions: what stands in for Lambda.
