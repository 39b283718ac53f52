// SPDX-License-Identifier: GPL-2.0

//! The numbered packet: a UDP datagram to the discard port whose payload begins with a magic, a
//! number and the id of its sender.
//!
//! ```text
//! 0        8             16         18
//! +--------+-------------+----------+-----------
//! | magic  | number (be) | id (be)  | filling ...
//! +--------+-------------+----------+-----------
//! ```

use std::net::Ipv4Addr;

/// The UDP port that numbered packets go to (discard).
pub const PORT: u16 = 9;

/// The first eight bytes of the payload.
pub const MAGIC: [u8; 8] = *b"TTRNGSEQ";

/// The shortest payload: magic, number, sender id.
pub const MIN_PAYLOAD: usize = 8 + 8 + 2;

/// The longest payload that fits a UDP datagram over IPv4.
pub const MAX_PAYLOAD: usize = 65535 - IPV4_LEN - UDP_LEN;

/// The maximum part of a frame that [`parse`] reads.
pub const PARSE_LEN: usize = ETH_LEN + IPV4_MAX_LEN + UDP_LEN + MIN_PAYLOAD;

/// Everything of a built frame in front of the UDP payload.
pub const HEADERS_LEN: usize = ETH_LEN + IPV4_LEN + UDP_LEN;

const ETH_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV4_MAX_LEN: usize = 60;
const UDP_LEN: usize = 8;
const ETH_P_IP: [u8; 2] = [0x08, 0x00];

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddr(pub [u8; 6]);

impl std::str::FromStr for MacAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("`{text}` is not a MAC address such as 02:00:00:00:00:02");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self(octets))
    }
}

/// The data of a numbered packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The sender's id.
    pub sender: u16,
    /// The packet's number, counted from 0 per sender.
    pub number: u64,
}

/// The two ends of the packets of one sender.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Source MAC address.
    pub src_mac: MacAddr,
    /// Destination MAC address.
    pub dst_mac: MacAddr,
    /// Source IPv4 address.
    pub src: Ipv4Addr,
    /// Destination IPv4 address.
    pub dst: Ipv4Addr,
    /// Source UDP port.
    pub src_port: u16,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Makes the echo reply of a frame that is an ICMP echo request over IPv4; returns whether it is one.
pub fn echo_reply(frame: &mut [u8]) -> bool {
    // Without options and fragments.
    let is_plain = array(frame, 12) == Some(ETH_P_IP)
        && frame.get(ETH_LEN) == Some(&0x45)
        && be16(frame, ETH_LEN + 6).is_some_and(|fragment| fragment & 0x3fff == 0);
    let icmp = ETH_LEN + IPV4_LEN;
    if !is_plain
        || frame.get(ETH_LEN + 9) != Some(&1)
        || array(frame, icmp) != Some([8, 0])
        || frame.len() < icmp + 8
    {
        return false;
    }
    let (macs, rest) = frame.split_at_mut(12);
    macs.rotate_left(6);
    // The checksum of the IP header is the same for swapped addresses.
    rest[2 + 12..2 + 20].rotate_left(4);
    frame[icmp..icmp + 4].fill(0);
    let checksum = fold(sum(&frame[icmp..]));
    frame[icmp + 2..icmp + 4].copy_from_slice(&checksum.to_be_bytes());
    true
}

/// Reads an Ethernet frame of `len` bytes, of which `head` holds the first [`PARSE_LEN`] (or all,
/// when it is shorter). Anything that is not a whole numbered packet gives `None`.
pub fn parse(head: &[u8], len: usize) -> Option<Numbered> {
    if array(head, 12)? != ETH_P_IP {
        return None;
    }
    let ip = &head[ETH_LEN..];
    let version_ihl = *ip.first()?;
    let ihl = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || ihl < IPV4_LEN || *ip.get(9)? != 17 {
        return None;
    }
    // No fragment: neither an offset nor more to come.
    if be16(ip, 6)? & 0x3fff != 0 {
        return None;
    }
    let total = usize::from(be16(ip, 2)?);
    let udp = ip.get(ihl..)?;
    let udp_len = usize::from(be16(udp, 4)?);
    // A frame may be padded, but nothing may be missing.
    if ETH_LEN + total > len || ihl + udp_len > total || udp_len < UDP_LEN + MIN_PAYLOAD {
        return None;
    }
    if be16(udp, 2)? != PORT {
        return None;
    }
    parse_payload(udp.get(UDP_LEN..)?)
}

/// Reads what such a frame carries, as a socket gives it.
pub fn parse_payload(payload: &[u8]) -> Option<Numbered> {
    if array(payload, 0)? != MAGIC {
        return None;
    }
    Some(Numbered {
        number: u64::from_be_bytes(array(payload, 8)?),
        sender: be16(payload, 16)?,
    })
}

/// Makes a payload of `size` bytes for `sender`, still without a number.
pub fn payload(size: usize, sender: u16) -> Vec<u8> {
    let mut payload = vec![0; size.max(MIN_PAYLOAD)];
    payload[..8].copy_from_slice(&MAGIC);
    payload[16..18].copy_from_slice(&sender.to_be_bytes());
    payload
}

/// Writes the number into a payload made by [`payload`].
pub fn set_number(payload: &mut [u8], number: u64) {
    payload[8..16].copy_from_slice(&number.to_be_bytes());
}

/// The Internet checksum's running sum over `bytes`.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| (u32::from(pair[0]) << 8) | pair.get(1).copied().map_or(0, u32::from))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Builds a whole frame around a payload of `size` bytes for `sender`, still without a number.
pub fn frame(addresses: &Addresses, size: usize, sender: u16) -> Vec<u8> {
    let payload = payload(size, sender);
    let udp_len = (UDP_LEN + payload.len()) as u16;
    let total = IPV4_LEN as u16 + udp_len;

    let mut frame = Vec::with_capacity(HEADERS_LEN + payload.len());
    frame.extend(addresses.dst_mac.0);
    frame.extend(addresses.src_mac.0);
    frame.extend(ETH_P_IP);

    let mut ip = [0u8; IPV4_LEN];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[6] = 0x40; // don't fragment
    ip[8] = 64; // time to live
    ip[9] = 17; // UDP
    ip[12..16].copy_from_slice(&addresses.src.octets());
    ip[16..20].copy_from_slice(&addresses.dst.octets());
    let checksum = fold(sum(&ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(ip);

    frame.extend(addresses.src_port.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0]); // checksum: set_frame_number() fills it in
    frame.extend(payload);
    frame
}

/// Writes the number into a frame made by [`frame`] and brings the UDP checksum up to date.
pub fn set_frame_number(frame: &mut [u8], number: u64) {
    set_number(&mut frame[HEADERS_LEN..], number);
    let udp = ETH_LEN + IPV4_LEN;
    frame[udp + 6..udp + 8].fill(0);
    let udp_len = (frame.len() - udp) as u32;
    // The pseudo header: both addresses, the protocol, the length.
    let checksum = match fold(sum(&frame[ETH_LEN + 12..]) + 17 + udp_len) {
        0 => 0xffff,
        other => other,
    };
    frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses {
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            src: Ipv4Addr::new(10, 99, 0, 1),
            dst: Ipv4Addr::new(10, 99, 0, 2),
            src_port: 40000,
        }
    }

    fn built(size: usize) -> Vec<u8> {
        let mut frame = frame(&addresses(), size, 7);
        set_frame_number(&mut frame, 0x0102_0304_0506_0708);
        frame
    }

    fn read(frame: &[u8]) -> Option<Numbered> {
        parse(&frame[..frame.len().min(PARSE_LEN)], frame.len())
    }

    #[test]
    fn parses_the_frames_that_it_builds() {
        for size in [MIN_PAYLOAD, 64, 65, 1472] {
            let expected = Numbered {
                sender: 7,
                number: 0x0102_0304_0506_0708,
            };
            assert_eq!(read(&built(size)), Some(expected), "payload of {size}");
            assert_eq!(built(size).len(), HEADERS_LEN + size);
        }
    }

    #[test]
    fn builds_valid_ip_and_udp_checksums() {
        let frame = built(65);
        assert_eq!(fold(sum(&frame[ETH_LEN..ETH_LEN + IPV4_LEN])), 0);
        let udp_len = (frame.len() - ETH_LEN - IPV4_LEN) as u32;
        assert_eq!(fold(sum(&frame[ETH_LEN + 12..]) + 17 + udp_len), 0);
    }

    #[test]
    fn parses_frames_with_ip_options_and_padding() {
        let mut frame = built(MIN_PAYLOAD);
        frame[ETH_LEN] = 0x4f;
        let total = (IPV4_MAX_LEN + UDP_LEN + MIN_PAYLOAD) as u16;
        frame[ETH_LEN + 2..ETH_LEN + 4].copy_from_slice(&total.to_be_bytes());
        let options = ETH_LEN + IPV4_LEN..ETH_LEN + IPV4_LEN;
        frame.splice(options, [0; IPV4_MAX_LEN - IPV4_LEN]);
        assert_eq!(frame.len(), PARSE_LEN);
        assert!(read(&frame).is_some());
        frame.extend([0; 30]);
        assert!(read(&frame).is_some());
    }

    #[test]
    fn answers_a_ping_and_no_other_frame() {
        let mut ping = built(64);
        assert!(!echo_reply(&mut ping));
        ping[ETH_LEN + 9] = 1;
        let icmp = ETH_LEN + IPV4_LEN;
        ping[icmp..icmp + 4].copy_from_slice(&[8, 0, 0, 0]);
        let request = ping.clone();
        assert!(echo_reply(&mut ping));
        assert_eq!(&ping[..6], &request[6..12], "the new destination");
        assert_eq!(&ping[6..12], &request[..6], "the new source");
        assert_eq!(&ping[ETH_LEN + 12..ETH_LEN + 16], &[10, 99, 0, 2]);
        assert_eq!(&ping[ETH_LEN + 16..icmp], &[10, 99, 0, 1]);
        assert_eq!(&ping[icmp..icmp + 2], &[0, 0], "an echo reply");
        assert_eq!(fold(sum(&ping[icmp..])), 0);
        assert_eq!(&ping[icmp + 4..], &request[icmp + 4..]);
        assert!(!echo_reply(&mut ping), "a reply");
        for len in 0..icmp + 8 {
            assert!(!echo_reply(&mut request[..len].to_vec()), "cut to {len}");
        }
    }

    #[test]
    fn rejects_frames_of_other_programs() {
        let good = built(64);
        let change = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame
        };
        assert!(read(&good).is_some());
        assert_eq!(read(&change(12, 0x86)), None, "another ethertype");
        assert_eq!(read(&change(14, 0x65)), None, "another IP version");
        assert_eq!(read(&change(14, 0x44)), None, "too short an IP header");
        assert_eq!(read(&change(20, 0x20)), None, "more fragments");
        assert_eq!(read(&change(21, 0x01)), None, "a later fragment");
        assert_eq!(read(&change(23, 6)), None, "TCP");
        assert_eq!(read(&change(37, 10)), None, "another port");
        assert_eq!(read(&change(39, 8)), None, "no payload");
        assert_eq!(read(&change(42, 0)), None, "no magic");
        assert_eq!(read(&change(16, 9)), None, "a length beyond the frame");
        assert_eq!(read(&good[..good.len() - 1]), None, "a cut frame");
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len], len), None, "cut to {len}");
        }
        for len in 0..HEADERS_LEN + MIN_PAYLOAD {
            assert_eq!(parse(&good[..len], good.len()), None, "head of {len}");
        }
    }

    #[test]
    fn rejects_malformed_mac_addresses() {
        assert_eq!(
            "02:00:00:00:0a:fF".parse(),
            Ok(MacAddr([2, 0, 0, 0, 10, 255]))
        );
        for bad in [
            "",
            "02:00",
            "02:00:00:00:00:00:00",
            "2:0:0:0:0:0",
            "zz:00:00:00:00:00",
            "+2:00:00:00:00:00",
        ] {
            assert!(
                bad.parse::<MacAddr>().is_err(),
                "expected: an error for {bad:?}, seen: none"
            );
        }
    }
}
