//! Ports of this machine that hardly anybody else takes between our look and whoever is told of them.
//!
//! They lie below those that the kernel hands out by itself (`ip_local_port_range`, from 32768), and none is given twice
//! in one process, unless it has used up all of them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// Finds a port of the loopback address that nobody listens on.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // Processes that run side by side begin far from each other.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(13_597)));
    for _ in 0..COUNT {
        let number = next.fetch_add(1, Ordering::Relaxed) % u32::from(COUNT);
        let port = FIRST + u16::try_from(number).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free")
}

/// Finds an address of this machine that nobody listens on, as text: `127.0.0.1:10004`.
pub fn free_address() -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())).to_string()
}
