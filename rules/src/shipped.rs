//! The catalogue, the policy and the never-block lists that come with the program.

use crate::{
    catalogue::Catalogue,
    policy::{NeverBlock, Policy},
    yaml::YamlError,
};

/// The catalogue of known feeds, as text.
pub const CATALOGUE: &str = include_str!("../catalogue/feeds.yaml");
/// The policy for whoever sets none, as text.
pub const POLICY: &str = include_str!("../policy/default.yaml");
/// The never-block lists, as file name and text.
pub const NEVER_BLOCK: &[(&str, &str)] = &[
    ("akamai.yaml", include_str!("../never-block/akamai.yaml")),
    ("amazon-aws.yaml", include_str!("../never-block/amazon-aws.yaml")),
    ("apple.yaml", include_str!("../never-block/apple.yaml")),
    ("big-services.yaml", include_str!("../never-block/big-services.yaml")),
    ("bunny-net.yaml", include_str!("../never-block/bunny-net.yaml")),
    ("cloudflare.yaml", include_str!("../never-block/cloudflare.yaml")),
    ("cloudfront.yaml", include_str!("../never-block/cloudfront.yaml")),
    ("crl-ip.yaml", include_str!("../never-block/crl-ip.yaml")),
    ("fastly.yaml", include_str!("../never-block/fastly.yaml")),
    ("google-gcp.yaml", include_str!("../never-block/google-gcp.yaml")),
    ("google-gmail-sending-ips.yaml", include_str!("../never-block/google-gmail-sending-ips.yaml")),
    ("microsoft-azure.yaml", include_str!("../never-block/microsoft-azure.yaml")),
    ("microsoft-office365-ip.yaml", include_str!("../never-block/microsoft-office365-ip.yaml")),
    ("names-and-time.yaml", include_str!("../never-block/names-and-time.yaml")),
    ("oracle-oci.yaml", include_str!("../never-block/oracle-oci.yaml")),
    ("ovh-cluster.yaml", include_str!("../never-block/ovh-cluster.yaml")),
    ("public-resolvers.yaml", include_str!("../never-block/public-resolvers.yaml")),
    ("root-servers.yaml", include_str!("../never-block/root-servers.yaml")),
    ("sinkholes.yaml", include_str!("../never-block/sinkholes.yaml")),
    ("stackpath.yaml", include_str!("../never-block/stackpath.yaml")),
    ("telegram-ips.yaml", include_str!("../never-block/telegram-ips.yaml")),
    ("wikimedia.yaml", include_str!("../never-block/wikimedia.yaml")),
];

/// The catalogue of known feeds.
pub fn catalogue() -> Result<Catalogue, YamlError> {
    Catalogue::from_yaml(CATALOGUE, "shipped catalogue/feeds.yaml")
}

/// The policy for whoever sets none.
pub fn policy() -> Result<Policy, YamlError> {
    Policy::from_yaml(POLICY, "shipped policy/default.yaml")
}

/// The never-block lists.
pub fn never_block() -> Result<Vec<NeverBlock>, YamlError> {
    let read = |(file, text): &(&str, &str)| {
        NeverBlock::from_yaml(text, &format!("shipped never-block/{file}"))
    };
    NEVER_BLOCK.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::{Action, Class, Format},
        policy::Guards,
    };

    #[test]
    fn everything_that_ships_is_readable() {
        let catalogue = catalogue().unwrap();
        for format in Format::ALL {
            assert!(catalogue.feeds.iter().any(|feed| feed.format == format), "{format}");
        }
        for feed in &catalogue.feeds {
            assert!(feed.licence.is_some(), "{} has no licence note", feed.name);
            let commands = !matches!(feed.class, Class::Scanner | Class::Sinkhole);
            assert!(commands || feed.action == Action::Observe, "{} lists no servers", feed.name);
            let is_abusech = feed.source.to_string().contains("abuse.ch");
            assert!(!(is_abusech && feed.enabled), "{} needs the operator's consent", feed.name);
            assert!(!(feed.auth.is_some() && feed.enabled), "{} needs a key", feed.name);
            let is_export = feed.source.to_string().contains("-api.abuse.ch");
            assert_eq!(is_export, is_abusech && feed.auth.is_some(), "{}", feed.name);
        }
        assert_eq!(policy().unwrap(), Policy::default());
        assert_eq!(never_block().unwrap().len(), NEVER_BLOCK.len());
        let folder =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/never-block")).unwrap();
        let files = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.collect();
        files.sort();
        assert_eq!(files, NEVER_BLOCK.iter().map(|(file, _)| *file).collect::<Vec<_>>());
    }

    #[test]
    fn what_subscribers_cannot_do_without_is_never_blocked() {
        let guards = Guards::new(&policy().unwrap(), &never_block().unwrap());
        let refuses = |host: &str| {
            let why = guards.check(host.parse().unwrap());
            why.map(|why| why.reason().as_str())
        };
        for host in ["8.8.8.8/32", "1.1.1.1/32", "2620:fe::fe/128", "198.41.0.4/32", "17.1.2.3/32"]
        {
            assert_eq!(refuses(host), Some("never_block"), "{host}");
        }
        assert_eq!(refuses("104.16.1.1/32"), Some("shared_address"));
        let warned = guards.warning("52.95.110.1/32".parse().unwrap()).map(|(list, _)| list);
        assert_eq!((refuses("52.95.110.1/32"), warned), (None, Some("amazon-aws")));
        assert_eq!(refuses("198.18.0.1/32"), None);
    }
}
