//! The stage's load balancer alone, in front of fixed addresses, for `benches/load-balancer`.
//!
//! ```text
//! load-balancer PORT GROUP=WEIGHT@ADDRESS:PORT...
//! ```
//!
//! It serves until it is ended by a signal.

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use futures_util::future::BoxFuture;
use stage::{
    clock::Clock,
    cloudwatch::Metrics,
    elb::{self, LoadBalancer, Target, TargetGroupOptions},
    events::Events,
    runtime::Dial,
};
use tokio::net::TcpStream;

/// A target that listens on an address of this machine.
struct Address(SocketAddr);

impl Dial for Address {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }
}

fn main() -> ExitCode {
    match start(std::env::args().skip(1).collect()) {
        Ok(balancer) => {
            println!("{}", balancer.production_address());
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("load-balancer: {error}");
            eprintln!("usage: load-balancer PORT GROUP=WEIGHT@ADDRESS:PORT...");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: Vec<String>) -> Result<LoadBalancer, Box<dyn std::error::Error>> {
    let mut arguments = arguments.into_iter();
    let port = arguments.next().ok_or("no port given")?.parse()?;
    let mut options = elb::Options {
        production_port: port,
        ..elb::Options::default()
    };
    let mut targets = Vec::new();
    for argument in arguments {
        let (name, rest) = argument.split_once('=').ok_or("a group without `=`")?;
        let (weight, address) = rest.split_once('@').ok_or("a group without `@`")?;
        options.groups.push(TargetGroupOptions::new(name));
        options.production.push((name.to_owned(), weight.parse()?));
        targets.push((name.to_owned(), address.parse::<SocketAddr>()?));
    }
    let clock = Clock::new(1.0);
    let (metrics, events) = (Metrics::new(), Events::new(clock));
    let balancer = LoadBalancer::start(options, clock, &metrics, &events)?;
    for (group, address) in targets {
        let target = Target {
            id: address.to_string(),
            dial: Arc::new(Address(address)),
        };
        balancer.register(&group, target)?;
    }
    Ok(balancer)
}
