//! What Wireshark reads in frames.

use std::{
    fs,
    io::{Error, Result},
    net::IpAddr,
    path::Path,
    process::Command,
};

/// A frame as Wireshark dissects it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dissected {
    /// Its layers, outermost first, by the names of Wireshark's dissectors.
    pub layers: Vec<String>,
    /// Source and destination of every IP packet in it, a packet that an ICMP error quotes included.
    pub ends: Vec<IpAddr>,
}

/// Has tshark dissect Ethernet frames, each by itself. `folder` is where the capture is written for it.
pub fn dissect(frames: &[Vec<u8>], folder: &Path) -> Result<Vec<Dissected>> {
    let path = folder.join("frames.pcap");
    fs::write(&path, capture(frames))?;
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-T", "fields", "-E", "separator=;", "-r"]).arg(&path);
    for field in ["frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst"] {
        tshark.args(["-e", field]);
    }
    for protocol in ["ip", "ipv6"] {
        tshark.args(["-o", &format!("{protocol}.defragment:FALSE")]);
    }
    let output = tshark.output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let dissected: Vec<Dissected> = told.lines().map(parse).collect();
    if !output.status.success() || dissected.len() != frames.len() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let told = dissected.len();
        return Err(Error::other(format!("tshark told of {told} frames only: {errors}")));
    }
    Ok(dissected)
}

fn parse(line: &str) -> Dissected {
    let mut fields = line.split(';');
    let layers = fields.next().unwrap_or_default().split(':').map(str::to_owned).collect();
    let ends = fields.flat_map(|field| field.split(',')).filter_map(|end| end.parse().ok());
    Dissected { layers, ends: ends.collect() }
}

/// A capture of Ethernet frames in the format of libpcap, in this machine's byte order.
fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const VERSION: [u16; 2] = [2, 4];
    const LONGEST: u32 = 1 << 18;
    const ETHERNET: u32 = 1;
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend(VERSION.iter().flat_map(|part| part.to_ne_bytes()));
    // Zone and accuracy of time, of which there is none.
    bytes.extend([0; 8]);
    bytes.extend([LONGEST, ETHERNET].iter().flat_map(|word| word.to_ne_bytes()));
    for frame in frames {
        let length = frame.len() as u32;
        bytes.extend([0, 0, length, length].iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(frame);
    }
    bytes
}
