//! CrowdSec's local API, and the command that makes its decisions.

use std::{fs, path::PathBuf, process::Command};

use super::{Server, free_port, installed};

/// A LAPI without an agent, and the key of a bouncer.
#[derive(Debug)]
pub struct CrowdSec {
    _server: Server,
    port: u16,
    folder: tempfile::TempDir,
}

impl CrowdSec {
    /// Starts it, without decisions.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let home = folder.path().display();
        let config = format!(
            "common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: {home}}}\n\
             config_paths:\n  config_dir: {home}\n  data_dir: {home}\n  simulation_path: \
             {home}/simulation.yaml\n  hub_dir: {home}\n  index_path: {home}/index.json\n  \
             notification_dir: {home}/plugins\n  plugin_dir: {home}/plugins\ncscli: {{output: raw}}\n\
             db_config: {{type: sqlite, db_path: {home}/crowdsec.db}}\napi:\n  client: \
             {{credentials_path: {home}/credentials.yaml}}\n  server: {{listen_uri: '127.0.0.1:{port}', \
             profiles_path: {home}/profiles.yaml}}\nprometheus: {{enabled: false}}\n"
        );
        let profile = "name: default\nfilters: ['Alert.Remediation == true']\ndecisions: [{type: ban, \
                       duration: 4h}]\non_success: break\n";
        for (name, text) in [
            ("config.yaml", &*config),
            ("index.json", "{}"),
            ("simulation.yaml", "simulation: false\n"),
            ("profiles.yaml", profile),
            ("credentials.yaml", ""),
        ] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        fs::create_dir(folder.path().join("plugins")).expect("a folder");
        let credentials = folder.path().join("credentials.yaml");
        let url = format!("http://127.0.0.1:{port}");
        cscli(
            &folder,
            &["machines", "add", "-a", "-u", &url, "-f", &credentials.to_string_lossy()],
        );
        let key = cscli(&folder, &["bouncers", "add", "sekisho", "-o", "raw"]);
        fs::write(folder.path().join("key"), key).expect("written");
        let mut command = Command::new(installed("crowdsec/usr/bin/crowdsec"));
        command.arg("-c").arg(folder.path().join("config.yaml")).arg("-no-cs");
        let server = Server::start(&mut command, port, folder.path().join("log"));
        Self { _server: server, port, folder }
    }

    /// Its row of a catalogue.
    pub fn row(&self, further: &str) -> String {
        format!(
            "  - name: crowdsec\n    source: crowdsec+http://127.0.0.1:{}/\n    format: crowdsec\n    \
             refresh: 10s\n    auth: {{header: {{name: X-Api-Key, value: {{file: '{}'}}}}}}\n{further}",
            self.port,
            self.key().display()
        )
    }

    /// The file that holds the bouncer's key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// `cscli decisions` with these words.
    pub fn decide(&self, words: &[&str]) {
        cscli(&self.folder, &[&["decisions"], words].concat());
    }
}

fn cscli(folder: &tempfile::TempDir, words: &[&str]) -> String {
    let output = Command::new(installed("crowdsec/usr/bin/cscli"))
        .arg("-c")
        .arg(folder.path().join("config.yaml"))
        .args(words)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "cscli {words:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
