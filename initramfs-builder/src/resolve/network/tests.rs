// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways over the networks that a host can have.

use crate::conf;
use crate::host::tests::Tree;
use crate::resolve::{Resolved, resolve};

const NETWORK: &str = "\
link eth0 mac=52:54:00:00:00:01 bus_path=pci-0000:00:03.0 modules=virtio_pci,virtio_net
link eth1 mac=52:54:00:00:00:02 modules=e1000
link eth2 mac=52:54:00:00:00:03 modules=e1000 mtu=9000
link bond0 kind=bond mode=active-backup miimon=0 mac=52:54:00:00:00:01
port eth0 bond0
port eth1 bond0
link bond0.5 kind=vlan over=bond0 id=5 mac=52:54:00:00:00:01
link br0 kind=bridge mac=52:54:00:00:00:01
port bond0.5 br0
link vnet0 kind=tun
port vnet0 br0
link wg0 kind=wireguard
address br0 10.5.0.15/24
address eth2 10.0.2.15/24 dhcp
address eth2 fd00::15/64 slaac
address wg0 10.8.0.2/24
route 10.5.0.0/24 dev br0
route 10.6.0.0/16 via 10.5.0.1 dev br0
route default via 10.0.2.2 dev eth2
route fd00::/64 dev eth2
route 10.8.0.0/24 dev wg0
nameserver 10.0.2.3
";

fn resolved(conf: &str) -> Result<Resolved, String> {
    let tree = Tree::new(&[
        ("kdump.network", NETWORK),
        ("kdump.devices", ""),
        (
            "etc/hosts",
            "127.0.0.1 localhost\n10.6.1.1 nas.example nas # old\n10.5.0.8 node8\nfd00::9 node9\n10.5.0.9 node9\n",
        ),
        ("etc/hostname", "node7.example\n"),
        (
            "proc/mounts",
            "10.0.2.2:/data /data nfs4 rw,relatime,vers=4.1,rsize=1048576,addr=10.0.2.2,clientaddr=10.9.9.9,_netdev,x-y 0 0\n\
             [fd00::2]:/six /six nfs4 rw,port=20490 0 0\n",
        ),
    ]);
    let conf = format!("{conf}\ndefault reboot\n");
    let directives = conf::parse("kdump.conf", conf.as_bytes()).map_err(|e| e.to_string())?;
    resolve(&directives, &tree.host(), "6.1.0").map_err(|mistakes| mistakes.to_string())
}

#[test]
fn everything_below_the_route_comes_from_below() {
    let plan = resolved("nfs nas:/crash").unwrap();
    assert_eq!(
        plan.ways[0].lines,
        "nic eth0 52:54:00:00:00:01 pci-0000:00:03.0\n\
         nic eth1 52:54:00:00:00:02\n\
         bond bond0 active-backup 100 eth0 eth1\n\
         mac bond0 52:54:00:00:00:01\n\
         vlan bond0.5 bond0 5\n\
         bridge br0 bond0.5\n\
         mac br0 52:54:00:00:00:01\n\
         address br0 10.5.0.15/24\n\
         route br0 10.6.0.0/16 10.5.0.1\n\
         nameserver 10.0.2.3\n"
    );
    assert_eq!(plan.ways[0].spec().links.len(), 5);
    assert_eq!(
        plan.attempts[0].target().to_string(),
        "nfs nas (10.6.1.1):/crash, save path /var/crash"
    );
    let record = plan.record(&[]).unwrap().to_string();
    assert!(config::record::parse(&record).is_ok(), "{record}");
}

#[test]
fn a_given_address_is_asked_for_again_and_its_routes_come_with_it() {
    let plan = resolved("nfs 10.0.2.2:/data\nlink_delay 7").unwrap();
    assert_eq!(
        plan.ways[0].lines,
        "nic eth2 52:54:00:00:00:03\n\
         mtu eth2 9000\n\
         address eth2 dhcp4\n\
         nameserver 10.0.2.3\n\
         delay_s 7\n"
    );
    assert_eq!(plan.deadlines.network_s, 127);
    let plan = resolved("nfs [fd00::2]:/data").unwrap();
    assert!(plan.ways[0].lines.contains("address eth2 slaac\n"));
}

#[test]
fn the_hosts_own_mount_says_how_it_is_mounted() {
    let options = |conf: &str| {
        let plan = resolved(conf).unwrap();
        let config::TargetSpec::Nfs { mount_options, .. } = plan.attempts[0].target() else {
            panic!("{plan:?}");
        };
        mount_options.to_owned()
    };
    assert_eq!(options("nfs 10.0.2.2:/data"), "vers=4.1,rsize=1048576");
    assert_eq!(options("nfs4 10.0.2.2:/data"), "vers=4.1,rsize=1048576");
    assert_eq!(options("nfs4 10.0.2.2:/other"), "vers=4");
    assert_eq!(options("nfs 10.0.2.2:/other"), "");
    assert_eq!(options("nfs [fd00::2]:/six"), "port=20490");
}

#[test]
fn two_targets_that_are_reached_alike_share_the_way() {
    let plan = resolved("nfs nas:/a\nnfs 10.6.9.9:/b\nnfs 10.0.2.2:/c").unwrap();
    assert_eq!(plan.ways.len(), 2);
    assert_eq!(plan.attempts[1].target().network(), Some(0));
    assert_eq!(plan.attempts[2].target().network(), Some(1));
}

#[test]
fn ip_has_its_way_with_the_address_and_the_hosts_links_stay() {
    let plan =
        resolved("nfs nas:/crash\nip 10.7.0.9:10.6.1.2:10.7.0.1:16::br0:none:10.7.0.3").unwrap();
    let lines = &plan.ways[0].lines;
    assert!(
        lines.ends_with(
            "bridge br0 bond0.5\n\
             mac br0 52:54:00:00:00:01\n\
             address br0 10.7.0.9/16\n\
             route br0 0.0.0.0/0 10.7.0.1\n\
             nameserver 10.7.0.3\n"
        ),
        "{lines}"
    );
    assert_eq!(
        plan.ways[0].how,
        "10.6.1.1 by br0, set up as `ip` in line 2 says"
    );
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("names the server 10.6.1.2")),
        "{:?}",
        plan.warnings
    );
    // The link that the host takes, or that of `ifc`.
    let plan = resolved("nfs nas:/crash\nip dhcp").unwrap();
    assert!(
        plan.ways[0]
            .lines
            .ends_with("address br0 dhcp4\nnameserver 10.0.2.3\n")
    );
    let plan = resolved("nfs nas:/crash\nip dhcp\nifc eth2").unwrap();
    assert!(plan.ways[0].lines.contains("address eth2 dhcp4\n"));
}

#[test]
fn what_ip_cannot_mean_is_refused() {
    for (conf, said) in [
        (
            "nfs nas:/a\nip 10.6.0.9:::16::eth7",
            "the link eth7, which this machine does not have; it has eth0",
        ),
        (
            "nfs nas:/a\nip 10.7.0.9:::16::eth2",
            "has no gateway, and 10.6.1.1 is outside",
        ),
        (
            "nfs nas:/a\nip auto6",
            "of the other family than the server's",
        ),
        (
            "nfs nas:/a\nip 10.7.0.9::[fd00::1]:16::eth2",
            "gateway fd00::1 is of another family",
        ),
        ("nfs [fd99::1]:/a\nip auto6", "names no device"),
    ] {
        let error = resolved(conf).unwrap_err();
        assert!(error.contains(said), "{conf}: {error}");
    }
}

#[test]
fn what_leads_nowhere_is_refused() {
    for (conf, said) in [
        ("nfs 10.8.0.1:/a", "wg0, a link of the kind wireguard"),
        ("nfs [fd99::1]:/a", "no route to fd99::1"),
        (
            "nfs unheard.example:/a",
            "not in the described host's /etc/hosts",
        ),
        ("nfs nas:/a\nifc eth9", "names eth9, which has no route"),
        (
            "nfs nas:/a\nnfs 10.6.1.1:/a/",
            "which kdump.conf:1 names already",
        ),
    ] {
        let error = resolved(conf).unwrap_err();
        assert!(error.contains(said), "{conf}: {error}");
    }
}

/// Who is told and by which way, beside a target on a server.
fn told(conf: &str) -> Result<(Vec<String>, Resolved), String> {
    let plan = resolved(&format!("nfs nas:/crash\n{conf}"))?;
    let nodes = plan
        .fence
        .iter()
        .map(|listener| format!("{} {}", listener.name, plan.ways[listener.way].how))
        .collect();
    Ok((nodes, plan))
}

#[test]
fn nodes_are_found_as_servers_are_and_share_their_way() {
    let (nodes, plan) = told("fence_kdump_nodes node8 10.6.1.9 node9\n").unwrap();
    assert_eq!(
        nodes,
        [
            "node8 10.5.0.8 is a neighbour on br0",
            "10.6.1.9 10.6.1.1 by br0 through the router 10.5.0.1",
            "node9 fd00::9 is a neighbour on eth2",
        ]
    );
    assert_eq!(plan.ways.len(), 3);
    assert_eq!(
        plan.fence[1].way,
        plan.attempts[0].target().network().unwrap()
    );
    let record = plan.record(&[]).unwrap();
    assert_eq!(record.fence.nodes[2].to_string(), "2 fd00::9 node9");
    assert_eq!(record.fence.sending.to_string(), "7410 10 0");
    assert!(
        plan.needs.iter().any(|need| need.by == "network eth2"),
        "the card of a node that no target needs"
    );
    // `ifc` says how the targets are reached.
    let (nodes, _) = told("fence_kdump_nodes node8\nifc br0\nfence_kdump_args -i 5\n").unwrap();
    assert_eq!(nodes, ["node8 10.5.0.8 is a neighbour on br0"]);
}

#[test]
fn a_family_chooses_among_the_addresses_of_a_node() {
    let (nodes, _) = told("fence_kdump_nodes node9\nfence_kdump_args -f ipv4\n").unwrap();
    assert_eq!(nodes, ["node9 10.5.0.9 is a neighbour on br0"]);
    for (conf, said) in [
        (
            "fence_kdump_nodes fd00::9\nfence_kdump_args -f ipv4",
            "kdump.conf:2: `fence_kdump_nodes`: fd00::9 is no IPv4 address",
        ),
        (
            "fence_kdump_nodes node8\nfence_kdump_args -f ipv6",
            "/etc/hosts with an IPv6 address",
        ),
        ("fence_kdump_nodes node7x", "node7x is not in"),
        ("fence_kdump_nodes fd99::1", "no route to fd99::1"),
    ] {
        let error = told(conf).unwrap_err();
        assert!(error.contains(said), "{conf}: {error}");
    }
}

#[test]
fn this_machine_is_not_told_of_its_own_dump() {
    for own in [
        "node7",
        "NODE7.example",
        "10.0.2.15",
        "fd00::15",
        "localhost",
    ] {
        let (nodes, plan) = told(&format!("fence_kdump_nodes {own} node8\n")).unwrap();
        assert_eq!(nodes.len(), 1, "{own}");
        assert!(
            plan.warnings
                .iter()
                .any(|warning| warning.contains(&format!("kdump.conf:2: {own} is this machine"))),
            "{own}: {:?}",
            plan.warnings
        );
    }
    // The same first name elsewhere is another machine.
    assert!(told("fence_kdump_nodes node7.elsewhere").is_err());
    let (_, plan) = told("fence_kdump_args -p 1").unwrap();
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("has no effect without `fence_kdump_nodes`"))
    );
}
