//! Everything through the front door: a server in a process of its own, real sockets, real guests. A file a theme.

mod api;
mod caching;
mod cancel;
mod check;
mod cleanup;
mod connections;
mod conversation;
mod dev;
mod examples;
mod grants;
mod guests;
mod history;
mod hostile;
mod limits;
mod making;
mod origins;
mod output;
mod plugins;
mod protocol;
mod shutdown;
mod start;
mod swap;
mod terminal;
mod trust;
mod users;
mod writing;
