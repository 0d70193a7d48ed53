//! The files to run the server in containers and by systemd: they name settings, commands and routes that exist, and hold
//! what a careful operator asks for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use plimsoll_server::cli::Cli;
use plimsoll_server::config::known;
use serde_json::{Value, json};

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All documents of a YAML file.
fn yaml(file: &str) -> Option<Vec<Value>> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let Ok(output) = Command::new(python).args(["-c", script]).arg(deploy(file)).output() else {
        println!("SKIPPED: PyYAML is not in .venv (./test installs it)");
        return None;
    };
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    let documents: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    Some(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn assert_setting(name: &str) {
    let bare = name.strip_suffix("_FILE").unwrap_or(name);
    assert!(known(bare).is_some(), "{name} is no setting");
}

fn assert_command(arguments: &[&str]) {
    let parsed = Cli::try_parse_from(std::iter::once("plimsoll").chain(arguments.iter().copied()));
    assert!(parsed.is_ok(), "plimsoll {}: {}", arguments.join(" "), parsed.unwrap_err());
}

fn words(of: &Value) -> Vec<&str> {
    of.as_array().expect("a list").iter().map(|word| word.as_str().expect("a text")).collect()
}

#[test]
fn the_image_runs_as_nobody_special_and_is_asked_for_its_health() {
    let containerfile = text("Containerfile");
    let last = containerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("base AS plimsoll"), "what a plain build makes is the server: {last}");
    let base = containerfile.split("\nFROM ").find(|stage| stage.contains(" AS base")).unwrap();
    assert!(base.lines().any(|line| line == "USER 10001:10001"), "not root");
    assert!(containerfile.matches("\nUSER ").count() == 1 && base.contains("VOLUME /data"));
    let list = |instruction: &str| -> Vec<String> {
        let line =
            last.lines().find(|line| line.contains(instruction)).unwrap_or_else(|| panic!("{instruction}"));
        serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap()
    };
    let health = list("HEALTHCHECK");
    assert_eq!(health[0], "plimsoll");
    assert_command(&health[1..].iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(list("ENTRYPOINT"), ["plimsoll"]);
    assert_command(&list("CMD [\"serve").iter().map(String::as_str).collect::<Vec<_>>());
    let environment = last.split("ENV ").nth(1).unwrap().split("\nEXPOSE").next().unwrap();
    let mut named = 0;
    for setting in environment.split_whitespace().filter(|word| *word != "\\") {
        assert_setting(setting.split_once('=').unwrap().0);
        named += 1;
    }
    assert!(named >= 4, "{environment}");
    for line in containerfile.lines().filter(|line| line.starts_with("FROM ")) {
        let image = line.split_whitespace().nth(1).unwrap();
        let own = ["base", "build"].contains(&image);
        assert!(own || (image.contains(':') && !image.ends_with(":latest")), "{image} has no version");
    }
}

#[test]
fn the_compose_file_keeps_secrets_in_files_and_listens_on_loopback() {
    let Some(documents) = yaml("compose.yaml") else { return };
    let compose = &documents[0];
    let made = text("secrets.sh");
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        assert_eq!(secret["file"], format!("./secrets/{name}"));
        assert!(made.contains(&format!("keep {name} ")), "secrets.sh makes {name}");
    }
    let secrets: BTreeSet<&str> =
        compose["secrets"].as_object().unwrap().keys().map(String::as_str).collect();
    for service in ["server", "migrate"] {
        let service = &compose["services"][service];
        for (name, value) in service["environment"].as_object().unwrap() {
            assert_setting(name);
            if let Some(file) = value.as_str().and_then(|value| value.strip_prefix("/run/secrets/")) {
                assert!(secrets.contains(file) && words(&service["secrets"]).contains(&file), "{file}");
            } else {
                assert_eq!(name, "PUBLIC_URL", "no secret stands in the file");
            }
        }
    }
    let server = &compose["services"]["server"];
    for port in words(&server["ports"]) {
        assert!(port.starts_with("127.0.0.1:"), "{port}");
    }
    assert_eq!(server["read_only"], true);
    assert_eq!(server["cap_drop"], json!(["ALL"]));
    assert_command(&words(&compose["services"]["migrate"]["command"]));
    assert_eq!(server["depends_on"]["migrate"]["condition"], "service_completed_successfully");
}

#[test]
fn pods_are_probed_drained_and_locked_down() {
    let (Some(documents), Some(migration)) =
        (yaml("kubernetes/plimsoll.yaml"), yaml("kubernetes/migrate.yaml"))
    else {
        return;
    };
    let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).expect(kind);
    for name in of("ConfigMap")["data"].as_object().unwrap().keys() {
        assert_setting(name);
    }
    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let job = &migration[0]["spec"]["template"]["spec"];
    for spec in [pod, job] {
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(spec["automountServiceAccountToken"], false);
        let container = &spec["containers"][0];
        assert_command(&words(&container["args"]));
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        for setting in container["env"].as_array().into_iter().flatten() {
            assert_setting(setting["name"].as_str().unwrap());
        }
    }
    let container = &pod["containers"][0];
    let document = plimsoll_api::openapi_document();
    let document: Value = serde_json::from_str(&document).unwrap();
    for (probe, path) in [
        ("startupProbe", "/health/ready"),
        ("readinessProbe", "/health/ready"),
        ("livenessProbe", "/health/live"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
        assert!(document["paths"][path].is_object(), "{path} is a route");
    }
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 25, "longer than SHUTDOWN_TIMEOUT");
    assert_eq!(of("PodDisruptionBudget")["spec"]["minAvailable"], 1);
    let labels = &of("Deployment")["spec"]["template"]["metadata"]["labels"];
    for kind in ["Service", "PodDisruptionBudget"] {
        let spec = &of(kind)["spec"];
        let selector = if kind == "Service" { &spec["selector"] } else { &spec["selector"]["matchLabels"] };
        for (name, value) in selector.as_object().unwrap() {
            assert_eq!(&labels[name], value, "{kind} selects the pods");
        }
    }
}

#[test]
fn the_unit_tells_systemd_and_is_confined() {
    let unit = text("systemd/plimsoll.service");
    let values = |key: &str| -> Vec<String> {
        let prefix = format!("{key}=");
        unit.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("KillMode"), ["mixed"]);
    assert!(values("TimeoutStopSec")[0].parse::<u64>().unwrap() > 25, "longer than SHUTDOWN_TIMEOUT");
    for key in ["ExecStart", "ExecStartPre"] {
        let line = &values(key)[0];
        let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        assert_command(&arguments);
    }
    let credentials: Vec<String> =
        values("LoadCredential").iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    let mut from_files = 0;
    for setting in values("Environment").iter().flat_map(|line| line.split_whitespace()) {
        let (name, value) = setting.split_once('=').unwrap();
        assert_setting(name);
        if let Some(credential) = value.strip_prefix("%d/") {
            assert!(credentials.contains(&credential.to_owned()), "{credential} is loaded");
            from_files += 1;
        }
    }
    assert_eq!(from_files, credentials.len());
    for key in ["NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictNamespaces"] {
        assert_eq!(values(key), ["yes"], "{key}");
    }
    assert_eq!(values("ProtectSystem"), ["strict"]);
}

/// The script makes each secret once, for its owner's eyes, and what it makes is what the server takes.
#[test]
fn secrets_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("secrets.sh");
    fs::copy(deploy("secrets.sh"), &script).unwrap();
    let run = || {
        let output = Command::new("sh").arg(&script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run().lines().count(), 4);
    let read = |name: &str| fs::read_to_string(folder.path().join("secrets").join(name)).unwrap();
    let key = read("encryption_key");
    assert!(key.len() == 64 && key.chars().all(|c| c.is_ascii_hexdigit()), "32 bytes in hexadecimal");
    assert!(plimsoll_crypto::KeyForm::of(&key).is_ok());
    let password = read("postgres_password");
    assert_eq!(read("database_url"), format!("postgresql://plimsoll:{password}@postgres/plimsoll"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(folder.path().join("secrets/encryption_key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(run(), "", "nothing is made anew");
    assert_eq!(read("encryption_key"), key);
}
