//! A dataplane without a kernel, for tests.
