//! Step 1: what people do with kubectl.

use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, ensure};

use crate::setting::{Setting, name};

pub fn apply_and_roll_out(setting: &Setting) -> Result<()> {
    let guestbook = setting.source("examples/guestbook");
    let applied = setting.kubectl.run(&["apply", "-f", &guestbook])?;
    for line in ["configmap/guestbook created", "secret/guestbook created", "service/frontend created"] {
        ensure!(applied.contains(line), "kubectl apply printed: {applied}");
    }
    for deployment in ["deployment/frontend", "deployment/backend"] {
        let status = setting.kubectl.run(&["rollout", "status", deployment, "--timeout=120s"])?;
        ensure!(status.contains("successfully rolled out"), "{status}");
    }
    let again = setting.kubectl.run(&["apply", "-f", &guestbook])?;
    // kubectl cannot see that a Secret's write-only stringData is there already, and always sends it again.
    let changed = again.lines().filter(|line| !line.ends_with(" unchanged") && !line.starts_with("secret/"));
    ensure!(changed.count() == 0, "a second apply changes nothing: {again}");
    Ok(())
}

pub fn kubectl_verbs(setting: &Setting) -> Result<()> {
    tables(setting)?;
    let kubectl = &setting.kubectl;
    let described = kubectl.run(&["describe", "deployment", "frontend"])?;
    ensure!(described.contains("3 desired | 3 updated | 3 total | 3 available"), "{described}");
    ensure!(described.contains("ScalingReplicaSet"), "events are missing: {described}");
    let pod = name(&setting.ready_pods("tier=frontend")?[0]);
    let described = kubectl.run(&["describe", "pod", &pod])?;
    for expected in ["xebec.local/busybox:1", "Started", "Scheduled", "Successfully assigned"] {
        ensure!(described.contains(expected), "no {expected:?} in: {described}");
    }
    let echoed = kubectl.run(&["exec", &pod, "--", "sh", "-c", "echo from $HOSTNAME"])?;
    ensure!(echoed.trim() == format!("from {pod}"), "{echoed}");
    let piped = kubectl.run_with_input(&["exec", "-i", &pod, "--", "cat"], "through and back\n")?;
    ensure!(piped == "through and back\n", "{piped:?}");
    let failed = kubectl.run(&["exec", &pod, "--", "sh", "-c", "exit 7"]).expect_err("exit status arrives");
    ensure!(format!("{failed:#}").contains("exit code 7"), "{failed:#}");
    kubectl.run(&["exec", &pod, "--", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/cgi-bin/guestbook"])?;
    setting.eventually("the request in the pod's log", || {
        Ok(kubectl.run(&["logs", &pod])?.contains("asks for /cgi-bin/guestbook").then_some(()))
    })?;
    let explained = kubectl.run(&["explain", "pod.spec.containers"])?;
    ensure!(explained.contains("imagePullPolicy"), "{explained}");
    watch_scale_and_delete(setting)
}

fn tables(setting: &Setting) -> Result<()> {
    for (kind, columns) in [
        ("pods", "NAME READY STATUS RESTARTS AGE"),
        ("deployments", "NAME READY UP-TO-DATE AVAILABLE AGE"),
        ("services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
        ("nodes", "NAME STATUS ROLES AGE VERSION"),
        ("replicasets", "NAME DESIRED CURRENT READY AGE"),
        ("configmaps", "NAME DATA AGE"),
        ("secrets", "NAME TYPE DATA AGE"),
        ("endpointslices", "NAME ADDRESSTYPE PORTS ENDPOINTS AGE"),
        ("leases -n kube-system", "NAME HOLDER AGE"),
        ("events", "LAST SEEN TYPE REASON OBJECT MESSAGE"),
    ] {
        let mut args = vec!["get"];
        args.extend(kind.split(' '));
        let table = setting.kubectl.run(&args)?;
        let header = table.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(header == columns, "{kind}: {header:?} instead of {columns:?}");
    }
    Ok(())
}

fn watch_scale_and_delete(setting: &Setting) -> Result<()> {
    let kubectl = &setting.kubectl;
    let mut watch = kubectl.spawn(&["get", "deployment", "frontend", "-w", "--request-timeout=60s"])?;
    let mut lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
    let first = lines.next().context("the watch ended")??;
    ensure!(first.starts_with("NAME"), "{first}");
    kubectl.run(&["scale", "deployment/frontend", "--replicas=4"])?;
    let seen = lines.map_while(Result::ok).find(|line| line.contains("4/4"));
    watch.kill()?;
    watch.wait()?;
    ensure!(seen.is_some(), "the watch never showed four ready replicas");
    kubectl.run(&["scale", "deployment/frontend", "--replicas=3"])?;
    setting.eventually("three pods again", || {
        Ok((setting.items(&["pods", "-l", "tier=frontend"])?.len() == 3).then_some(()))
    })?;
    kubectl.run(&["create", "configmap", "short-lived", "--from-literal=a=b"])?;
    kubectl.run(&["delete", "configmap", "short-lived"])?;
    let error = kubectl.run(&["get", "configmap", "short-lived"]).expect_err("it is deleted");
    ensure!(format!("{error:#}").contains("configmaps \"short-lived\" not found"), "{error:#}");
    Ok(())
}
