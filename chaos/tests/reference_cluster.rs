//! The main job, end to end: a three-master cluster runs real containers and survives losing its leader. Stock kubectl
//! judges; waits are on conditions with generous limits, for speeds are judged by the benchmark.

#[path = "steps/applications.rs"]
mod applications;
#[path = "steps/containers.rs"]
mod containers;
#[path = "steps/failover.rs"]
mod failover;
#[path = "steps/hollow.rs"]
mod hollow;
#[path = "steps/nodes.rs"]
mod nodes;
#[path = "steps/setting.rs"]
mod setting;

use setting::Setting;

/// Without containers, and with nothing that needs root.
#[test]
fn a_hollow_cluster_runs_a_deployment() {
    hollow::a_deployment_becomes_available().expect("hollow nodes take pods");
}

type Step = fn(&Setting) -> anyhow::Result<()>;

#[test]
fn the_main_job_runs_end_to_end() {
    let setting = Setting::up().expect("the cluster comes up");
    let steps: [(&str, Step); 9] = [
        ("guestbook is applied and rolls out", applications::apply_and_roll_out),
        ("kubectl's verbs and tables", applications::kubectl_verbs),
        ("pods reach each other by name and address across nodes", containers::network),
        ("a killed container restarts, a deleted pod is replaced", containers::replacement),
        ("the store's leader is killed while clients write", failover::kill_store_leader),
        ("the controllers' leader is killed", failover::kill_controllers_leader),
        ("a third node joins with a token", nodes::third_node_joins),
        ("a node dies and its pods move", nodes::node_dies),
        ("a second start resumes the cluster with its data", failover::whole_cluster_restarts),
    ];
    for (title, step) in steps {
        eprintln!("--- {title}");
        let started = std::time::Instant::now();
        if let Err(error) = step(&setting) {
            setting.show_logs();
            panic!("{title}: {error:#}");
        }
        eprintln!("    done in {:.1} s", started.elapsed().as_secs_f64());
    }
    setting.down_leaves_nothing().expect("down leaves nothing behind");
}
