//! Hostile guests, each with the effect that it must not achieve. One file for each theme; the last one runs all of
//! them at once.

mod computing;
mod crowd;
mod files;
mod growing;
mod modules;
mod reaching;
mod traps;
mod writing;
