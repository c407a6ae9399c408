//! `lectern tls`: TLS without a name in the DNS.
use std::path::PathBuf;

use crate::certificate::{self, CA_FILE, CERT_FILE, KEY_FILE, Made};
use crate::config::Config;

/// The command line of `tls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes an authority, once, and a certificate for this machine; again: a new certificate from the same authority.
    Init {
        /// A name or an address besides those that this machine has.
        #[arg(long, value_name = "NAME|ADDRESS")]
        host: Vec<String>,
        /// Where the files are put [default: the data folder, data].
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// The configuration file [default: lectern.toml, if there is one].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Does what is asked for and says what to do with it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Command::Init { host, data_dir, config } = &arguments.command;
    let settings: Config = process::config::load(config.as_deref())?;
    let folder = data_dir.as_ref().unwrap_or(&settings.coordinator.data_dir);
    let Made { is_new_ca, names } = certificate::make(folder, certificate::own_names(host))?;
    let file = |name: &str| folder.join(name).display().to_string();
    let (ca, cert, key) = (file(CA_FILE), file(CERT_FILE), file(KEY_FILE));
    let mut text = format!("\n  A certificate for {}\n  is in {cert}, its key in {key}.\n", names.join(", "));
    let elsewhere = data_dir.as_ref().map(|dir| format!(" --data-dir {}", dir.display())).unwrap_or_default();
    text += &format!(
        "  A running server takes it up within two seconds; start one with\n\n      lectern up --tls{elsewhere}\n\n"
    );
    if is_new_ca {
        text += &format!(
            "  Devices trust it once they trust its authority, {ca}. Give it to them by hand:\n\
             \x20   Android   Settings > Security > Install a certificate > CA certificate\n\
             \x20   iPhone    open the file, install the profile, then Settings > General > About > Certificate Trust\n\
             \x20   Windows   certutil -addstore Root ca.pem, as administrator\n\
             \x20   macOS     security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db ca.pem\n\
             \x20   Debian    copy it to /usr/local/share/ca-certificates/lectern.crt, then update-ca-certificates\n\
             \x20   Firefox   Settings > Privacy & Security > View Certificates > Authorities > Import\n\
             \n  Whoever has its key, ca-key.pem in the same folder, can pass for any site to these devices: keep it to\n  yourself.\n"
        );
    }
    show(&text);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn show(text: &str) {
    println!("{text}");
}
