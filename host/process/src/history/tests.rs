use super::*;
use distillery_core::limits::Limits;
use serde_json::json;

fn specs(specs: serde_json::Value) -> Vec<ParamSpec> {
    serde_json::from_value(specs).unwrap()
}

#[test]
fn stored_params_have_no_secrets_and_a_bound() {
    let params = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let rules = specs(json!([{"name": "slug"}, {"name": "key", "secret": true, "rest": true}]));
    assert_eq!(kept(&rules, &params(&["a", "b", "c"])), [Some("a".into()), None, None]);
    assert_eq!(kept(&[], &params(&["a", ""])), [Some("a".into()), Some("".into())]);
    let long = "ä".repeat(PARAMS);
    let kept = kept(&[], &params(&["x", &long, "y"]));
    assert_eq!(kept.len(), 2);
    assert!(kept[1].as_ref().unwrap().ends_with('…') && kept[1].as_ref().unwrap().len() <= PARAMS + 3);
}

const RETENTION: Retention =
    Retention { age: Duration::from_secs(3600), count: 1000, output: 1 << 20, output_each: 1 << 20 };

fn started() -> (tempfile::TempDir, History) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).unwrap();
    (directory, History::start(&database, RETENTION).unwrap())
}

fn begin(history: &History, size: usize) -> Arc<Control> {
    let control = Arc::new(Control::new(&Limits::default()));
    let begun = Begun {
        id: control.id,
        user: "ada".into(),
        owner: Principal::default(),
        schedule: None,
        call: "echo".into(),
        params: vec![Some("x".repeat(size))],
        plugin: "echo".into(),
        generation: 1,
        started: now(),
    };
    history.begin(&control, begun);
    control
}

const SUCCESS: Outcome = Outcome::Exited { status: 0, last_words: None };

fn all() -> Wanted {
    Wanted { limit: 500, ..Wanted::default() }
}

#[tokio::test]
async fn process_is_visible_while_it_runs_and_after_its_end() {
    let (_directory, history) = started();
    let control = begin(&history, 1);
    assert_eq!(history.page(all()).await.unwrap()[0].outcome(), RUNNING);
    history.end(&control, &SUCCESS, control.value());
    assert!(!history.cancel(control.id, false));
    let seen = history.one(control.id).await.unwrap().unwrap();
    history.finish();
    let again = history.one(control.id).await.unwrap().unwrap();
    assert_eq!((&seen.begun, &seen.ended), (&again.begun, &again.ended));
    assert_eq!(again.outcome(), "success");
}

#[tokio::test]
async fn operator_cancels_a_running_process() {
    let (_directory, history) = started();
    let control = begin(&history, 1);
    assert!(history.cancel(control.id, false));
    assert_eq!(control.cancelled().unwrap().0, CancelReason::Operator);
    assert!(!history.cancel(Uuid::nil(), false));
}

#[tokio::test]
async fn overload_drops_entries_and_leaks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (history, scribe) = History::open(&Database::open(directory.path()).unwrap(), RETENTION).unwrap();
    let controls: Vec<_> = (0..64).map(|_| begin(&history, WAITING_BYTES / 32)).collect();
    controls.iter().for_each(|control| history.end(control, &SUCCESS, control.value()));
    assert!(history.queue.bytes.load(Relaxed) <= WAITING_BYTES);
    assert!(history.notes.try_send(Note::Last).is_ok());
    scribe.run();
    let kept = history.page(all()).await.unwrap();
    assert!(!kept.is_empty() && kept.len() < controls.len(), "{}", kept.len());
    assert!(kept.iter().all(|seen| seen.outcome() == "success"));
    assert!(history.running.0.iter().all(|shard| shard.lock().is_empty()));
    assert_eq!(history.queue.bytes.load(Relaxed), 0);
}
