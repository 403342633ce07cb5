//! The server and the credential of a command.

use super::output;
use anyhow::Context;
use distillery_client::{Peer, Place, address::Address, token::Token};
use distillery_config::Config;
use distillery_http::server::local::SOCKET;
use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

/// By default, the server of this configuration over its control socket, with the user of the command as its operator.
#[derive(clap::Args)]
pub struct Server {
    /// The URL of the server [default: $DISTILLERY_URL, or the server of this configuration, as its operator]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A file with the token, readable by its owner only [default: $DISTILLERY_TOKEN_FILE, or the token itself in
    /// $DISTILLERY_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file of certificate authorities to trust in addition to the usual ones
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

/// Returns the key of a process from the environment, which other users of the machine cannot see.
pub fn process_key() -> Option<String> {
    variable("PROCESS_KEY")
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("DISTILLERY_{name}")).ok().filter(|value| !value.is_empty())
}

/// Returns the address of the server of this configuration.
fn own(config: &Config) -> Address {
    let mut listen = config.http.listen;
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{listen}").parse().expect("an address makes a URL")
}
