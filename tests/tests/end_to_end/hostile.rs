//! Guests that mean harm, each with what it must not achieve. What they break goes by a file a theme; the last one lets
//! all of them in at once.

mod computing;
mod crowd;
mod files;
mod growing;
mod modules;
mod reaching;
mod traps;
mod writing;
