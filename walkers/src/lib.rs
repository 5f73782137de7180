//! The stock walkers.
