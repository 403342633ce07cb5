//! Which server a command speaks to, and as whom.

use super::output;
use crate::{
    client::{Peer, Place, address::Address, token::Token},
    config::Config,
    server::local::SOCKET,
};
use anyhow::Context;
use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

/// Where nothing is said, the server of this configuration is meant, over its control socket, and the one who runs the
/// command is its operator.
#[derive(clap::Args)]
pub struct Server {
    /// The server [default: $DISTILLERY_URL, or the one that runs with this configuration, as its operator]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A file with the token to show, which only its owner may read [default: $DISTILLERY_TOKEN_FILE, or the token itself
    /// in $DISTILLERY_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificates of authorities to trust beside the usual ones, as PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Server {
    pub fn peer(&self, config: &Config) -> anyhow::Result<Peer> {
        let token = match self.token_file.clone().or_else(|| variable("TOKEN_FILE").map(PathBuf::from)) {
            Some(file) => Some(Token::read(&file)?),
            None => variable("TOKEN").map(|text| Token::new(&text).context("DISTILLERY_TOKEN")).transpose()?,
        };
        let place = match self.url.clone().or_else(|| variable("URL")) {
            Some(url) => Place::Remote(url.parse()?),
            None if token.is_some() => Place::Remote(own(config)),
            None => Place::Local(config.data.join(SOCKET)),
        };
        if let (Place::Remote(address), Some(_)) = (&place, &token)
            && !address.is_private()
        {
            let what = format_args!("the token goes to {address} unencrypted: use https where the server has it");
            output::error(what);
        }
        Ok(Peer { place, token, authorities: self.ca.clone() })
    }
}

/// The key of a process, from where other users of the machine do not see it.
pub fn process_key() -> Option<String> {
    variable("PROCESS_KEY")
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("DISTILLERY_{name}")).ok().filter(|value| !value.is_empty())
}

/// Where the server of this configuration listens.
fn own(config: &Config) -> Address {
    let mut listen = config.http.listen;
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{listen}").parse().expect("an address makes a URL")
}
