//! The calls, one file each. All take the directory of instances and their host, and fail with a message for the
//! client.

pub mod backup;
pub mod cleanup;
pub mod cron;
pub mod exec;
pub mod log;
pub mod provision;
pub mod prune;
pub mod purge;
pub mod rebuild;
pub mod restore;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod stop;
pub mod update;

#[cfg(test)]
mod tests;
