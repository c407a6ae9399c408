//! The web application is embedded; without it the coordinator still builds and serves its API.
fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=../frontend/dist");
    println!("cargo:rerun-if-changed=migrations");
    std::fs::create_dir_all("../frontend/dist")
}
