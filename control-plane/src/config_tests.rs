use super::*;

const LEAST: &str = "interfaces:\n  - {name: eth0, role: subscriber}\n";

fn fault(text: &str) -> String {
    Config::from_yaml(text, "c.yaml").unwrap_err().to_string()
}

#[test]
fn one_interface_is_a_whole_configuration() {
    let config = Config::from_yaml(LEAST, "c.yaml").unwrap();
    assert_eq!(config.list_lifetime, Period::hours(24));
    assert_eq!(config.drain_interval.as_secs(), 1);
    assert!(config.never_block.shipped);
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:9320");
}

#[test]
fn what_is_printed_reads_back_the_same() {
    let text = "interfaces: [{name: a, role: uplink}, {name: b, role: both}]\nmode: observe\n\
                feeds: f.yaml\npolicy: p.yaml\nnever_block: {shipped: false, files: [n.yaml]}\n\
                state_dir: /s\nlist_lifetime: 12h\ndrain_interval: 2s\nsubscribers: {csv: s.csv}\n\
                fetch: {timeout: 1m, contact: 'noc@example.net', proxy: 'http://p.example:3128', \
                proxy_login: {user: u, password: {env: P}}, ca_file: ca.pem}\n\
                dataplane: {image_capacity_mib: 128, attach: generic}\nhits: {retention: 7d}\n\
                api: {listen: '[::1]:99'}\nlog: {format: json, level: debug}\n";
    for text in [text, LEAST] {
        let config = Config::from_yaml(text, "c.yaml").unwrap();
        let printed = config.to_yaml().unwrap();
        assert_eq!(Config::from_yaml(&printed, "printed").unwrap(), config, "{printed}");
    }
}

#[test]
fn the_example_that_ships_is_valid_and_says_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/config/example.yaml");
    let config = Config::read(&path).unwrap();
    let defaults = Config::from_yaml(LEAST, "least").unwrap();
    assert_eq!(config.fetch, defaults.fetch);
    assert_eq!(config.dataplane, defaults.dataplane);
    assert_eq!(config.hits, defaults.hits);
    assert_eq!(config.api, defaults.api);
    assert_eq!(config.log, defaults.log);
    assert_eq!(config.state_dir, defaults.state_dir);
    assert_eq!(config.list_lifetime, defaults.list_lifetime);
    assert_eq!(config.drain_interval, defaults.drain_interval);
    assert_eq!(config.mode, defaults.mode);
}

#[test]
fn an_unknown_key_is_refused_at_its_place() {
    let error = fault(&format!("{LEAST}hits:\n  retain: 3d\n"));
    assert!(error.starts_with("c.yaml:4:3: "), "{error}");
    assert!(error.contains("retain") && error.contains("retention"), "{error}");
}

#[test]
fn a_wrong_type_is_refused_at_its_place() {
    let error = fault(&format!("{LEAST}dataplane:\n  image_capacity_mib: lots\n"));
    assert!(error.starts_with("c.yaml:4:23: "), "{error}");
}

#[test]
fn limits_are_named_at_their_place() {
    let cases = [
        ("dataplane:\n  image_capacity_mib: 4\n", "c.yaml:4:3: expected 8 to 512 MiB"),
        ("dataplane:\n  flow_table_entries: 5\n", "c.yaml:4:3: expected 1024 to"),
        ("hits:\n  retention: 181d\n", "c.yaml:4:3: hits may be kept for at most 180d"),
        ("drain_interval: 2m\n", "c.yaml:3:1: expected at most 1m"),
        ("fetch:\n  timeout: 5s\n", "c.yaml:3:1: expected no more than fetch.timeout"),
        ("list_lifetime: 5m\n", "c.yaml:3:1: expected more than fetch.floor"),
        ("api:\n  listen: 0.0.0.0:1\n", "c.yaml:4:3: 0.0.0.0:1 can be reached"),
    ];
    for (rest, expected) in cases {
        let error = fault(&format!("{LEAST}{rest}"));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn interfaces_are_checked() {
    assert!(fault("interfaces: []\n").contains("at least one interface"));
    let twice = "interfaces: [{name: a, role: uplink}, {name: a, role: both}]\n";
    assert!(fault(twice).contains("'a' is named twice"));
    let long = "interfaces: [{name: averyveryverylongname, role: uplink}]\n";
    assert!(fault(long).contains("is no interface name"));
}

#[test]
fn an_api_for_others_needs_a_word() {
    let text = format!("{LEAST}api: {{listen: '192.0.2.1:80', allow_remote: true}}\n");
    assert!(Config::from_yaml(&text, "c.yaml").is_ok());
}

#[test]
fn relative_paths_start_at_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, format!("{LEAST}feeds: lists/f.yaml\nstate_dir: /var/x\n")).unwrap();
    let config = Config::read(&path).unwrap();
    assert_eq!(config.feeds, Some(dir.path().join("lists/f.yaml")));
    assert_eq!(config.state_dir, Path::new("/var/x"));
}
