//! Somebody outside who keeps lists and serves them over HTTPS.

use std::fs;
use std::path::PathBuf;

use super::service::Running;
use super::{BYSTANDER, Lab, program, until};

/// The server, on the bystander's address.
pub struct Lists {
    /// What is served.
    folder: PathBuf,
    /// The certificate of who vouches for it.
    pub ca: PathBuf,
    process: Running,
}

impl Lists {
    /// Makes an authority and a certificate, and starts the server.
    pub fn start(lab: &Lab) -> Self {
        let (folder, script) = (lab.path("lists"), lab.path("lists.py"));
        fs::create_dir(&folder).unwrap();
        fs::write(&script, include_str!("lists.py")).unwrap();
        let dir = lab.dir.path().display();
        for (name, more) in [("ca", ""), ("stranger", "")] {
            lab.outside.sh(&format!(
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} \
                 -keyout {dir}/{name}.key -out {dir}/{name}.pem {more} 2>/dev/null"
            ));
        }
        lab.outside.sh(&format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=lists -keyout {dir}/lists.key -out {dir}/lists.csr 2>/dev/null; \
             echo subjectAltName=IP:{BYSTANDER} > {dir}/lists.ext; \
             openssl x509 -req -in {dir}/lists.csr -CA {dir}/ca.pem -CAkey {dir}/ca.key -CAcreateserial -days 2 -extfile {dir}/lists.ext \
             -out {dir}/lists.pem 2>/dev/null"
        ));
        let mut command = lab.outside.command(program("python3"));
        command.arg(&script).arg(&folder).args([BYSTANDER, "8443"]).arg(lab.path("lists.pem")).arg(lab.path("lists.key"));
        let process = Running(command.spawn().unwrap());
        until("the lists are served", || lab.outside.sh("ss -Hltn sport = :8443").contains(":8443"));
        Self { folder, ca: lab.path("ca.pem"), process }
    }

    /// Puts a list there.
    pub fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// The config of a feed that follows `name`.
    pub fn feed(&self, name: &str, more: &str) -> String {
        format!("[feed.drop]\nurl = \"https://{BYSTANDER}:8443/{name}?key=secret\"\nca = \"{}\"\n{more}\n", self.ca.display())
    }

    /// What was answered, oldest first: status, path, and who asked.
    pub fn log(&self) -> Vec<String> {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}
