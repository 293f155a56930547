//! What the gate is made of: the standard library's, and those of a model checker in a test of it.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
