//! Checks of what the NIC does to packets before the program sees them.

use super::{Rows, Topic, facts::Link};

pub(super) fn check(name: &str, link: &Link, wired: bool, rows: &mut Rows) {
    let Some(offloads) = link.offloads else {
        let command = format!("ethtool -k {name}");
        return rows.warn(
            Topic::VlanOffload,
            format!("the driver of '{name}' does not tell its offloads"),
            command,
        );
    };
    let stripped: Vec<&str> = [
        (offloads.strips_vlan, "rxvlan off"),
        (offloads.strips_service_vlan, "rx-vlan-stag-hw-parse off"),
    ]
    .into_iter()
    .filter_map(|(strips, word)| strips.then_some(word))
    .collect();
    let command = format!("ethtool -K {name} {}", stripped.join(" "));
    if stripped.is_empty() {
        rows.pass(Topic::VlanOffload, format!("'{name}' leaves VLAN tags in the frames"));
    } else if wired {
        rows.fail(
            Topic::VlanOffload,
            format!(
                "'{name}' strips VLAN tags before the program sees them, and a wire hands frames \
                 on as the program sees them: without their tags"
            ),
            command,
        );
    } else {
        rows.warn(
            Topic::VlanOffload,
            format!(
                "'{name}' strips VLAN tags before the program sees them: hits don't name them, and answers of \
                 `reject` go out without them, to no subscriber"
            ),
            command,
        );
    }
    if offloads.lro {
        rows.fail(
            Topic::Lro,
            format!(
                "'{name}' merges packets (LRO) before the program sees them: the merged ones can't \
                 be forwarded as they came, and many drivers refuse programs"
            ),
            format!("ethtool -K {name} lro off"),
        );
    } else if offloads.hardware_gro {
        rows.warn(
            Topic::Lro,
            format!(
                "'{name}' merges packets (hardware GRO), with which many drivers refuse programs"
            ),
            format!("ethtool -K {name} rx-gro-hw off"),
        );
    } else {
        rows.pass(Topic::Lro, format!("'{name}' does not merge packets"));
    }
}
