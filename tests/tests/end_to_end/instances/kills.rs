//! Provisions that are cancelled, forced to end, killed with their server, or compete with each other.

use super::*;

#[tokio::test]
async fn cancelled_provision_leaves_nothing() {
    let server = builder().start().await;
    let home = Home::of(&server);
    let fake = Fake::of(&server);
    fake.close_gate();
    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "Creating").await;
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
    home.has_nothing();
    assert_eq!(fake.everything(), [""; 0]);

    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "Creating").await;
    client.hang_up().await;
    let ended = |line: &distillery_tests::log::Line| line.message() == "process ended";
    server.log().lines_of("the end of both", 2, ended).await;
    home.has_nothing();
    assert_eq!(fake.everything(), [""; 0]);

    // The provision is not delayed: the cancel arrives at any step.
    fake.open_gate();
    for lines in 0..10 {
        let mut client = server.call("provision", &[FORM]).await;
        for _ in 0..lines {
            client.line().await;
        }
        client.cancel().await;
        match client.finish().await.verdict {
            // The cancel came behind the last look for one: the instance is complete, as its last line said.
            Verdict::Failure(why) if lines > 7 && home.at("coins").exists() => {
                assert_eq!(why, "cancelled by the client");
                home.is_whole("coins");
                succeeds(&server, "purge", &["coins", "--yes"]).await;
            }
            Verdict::Failure(why) => {
                assert_eq!(why, "cancelled by the client");
                home.has_nothing();
                assert_eq!((systems(&server).await, fake.everything()), (json!([]), vec![]), "{lines}");
            }
            Verdict::Success => {
                home.is_whole("coins");
                succeeds(&server, "purge", &["coins", "--yes"]).await;
            }
        }
    }
}

#[tokio::test]
async fn forced_provision_is_cleaned_up() {
    let server = without_grace().start().await;
    let home = Home::of(&server);
    provisioned(&server, "atlas").await;
    let before = home.names(".versions");
    let fake = Fake::of(&server);
    let left = fake.everything();
    fake.close_gate();
    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "Creating").await;
    assert_eq!(home.names(".versions").len(), 2);
    client.cancel().await;
    let message = client.finish().await.failure();
    assert!(message.starts_with("cancelled by the client") && !message.contains("cleanup"), "{message}");
    assert_eq!((home.names(".versions"), home.names(".locks").len(), fake.everything()), (before, 0, left));
    home.is_whole("atlas");
    assert_eq!(systems(&server).await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn remains_of_a_killed_server_are_removed_by_the_next_provision() {
    let mut server = builder().start().await;
    let (home, fake) = (Home::of(&server), Fake::of(&server));
    fake.close_gate();
    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "Creating").await;
    server.crash_and_restart().await;
    // It has containers, and is not an instance that works.
    assert_eq!(fake.everything(), ["coins.network", "coins.volume", "coins.web"]);
    assert_eq!(systems(&server).await, json!([]));
    home.unlock();
    let said = fails(&server, "start", &["coins"]).await;
    assert!(said.starts_with("the provision of coins is not complete"), "{said}");
    fake.open_gate();
    let lines = succeeds(&server, "provision", &[FORM]).await;
    assert!(lines.contains(&"removing what an interrupted provision has left".to_owned()), "{lines:?}");
    home.is_whole("coins");
    assert_eq!((home.names(".versions").len(), home.names(".locks").len()), (1, 0));

    // The same is purged instead.
    fake.close_gate();
    let mut client = server.call("provision", &[&form("atlas")]).await;
    line_that_begins(&mut client, "Creating").await;
    server.crash_and_restart().await;
    home.unlock();
    succeeds(&server, "purge", &["atlas", "--yes"]).await;
    assert_eq!(fake.everything(), ["coins.network", "coins.volume", "coins.web"]);
    assert_eq!(home.names(".versions").len(), 1);
}

#[tokio::test]
async fn killed_server_leaves_a_whole_instance_or_a_new_provision() {
    let mut server = builder().start().await;
    let home = Home::of(&server);
    for lines in 1..8 {
        let slug = format!("coins-{lines}");
        let mut client = server.call("provision", &[&form(&slug)]).await;
        for _ in 0..lines {
            client.line().await;
        }
        server.crash_and_restart().await;
        home.unlock();
        // Whole, or to be provisioned again.
        let end = server.call("provision", &[&form(&slug)]).await.finish().await;
        if end.verdict != Verdict::Success {
            succeeds(&server, "start", &[&slug]).await;
        }
        home.is_whole(&slug);
        let listed = systems(&server).await;
        assert!(listed.as_array().unwrap().iter().any(|it| it["Slug"] == slug.as_str()), "{listed}");
    }
}

#[tokio::test]
async fn concurrent_provisions_of_one_slug_create_one_instance() {
    let server = builder().start().await;
    let home = Home::of(&server);
    let lock = home.lock("coins");
    let (mut one, mut other) = (server.call("provision", &[FORM]).await, server.call("provision", &[FORM]).await);
    line_that_begins(&mut one, "secrets").await;
    line_that_begins(&mut other, "secrets").await;
    fs::remove_file(lock).unwrap();
    let verdicts = [one.finish().await.verdict, other.finish().await.verdict];
    let refused = Verdict::Failure("exit status 1: there is an instance coins already: choose another slug".to_owned());
    assert!(verdicts.contains(&Verdict::Success) && verdicts.contains(&refused), "{verdicts:?}");
    home.is_whole("coins");
    assert_eq!((home.names(".versions").len(), home.names(".locks").len()), (1, 0));
    assert_eq!(systems(&server).await.as_array().map(Vec::len), Some(1));
    // A later provision is refused before it builds anything.
    let end = server.call("provision", &[FORM]).await.finish().await;
    assert_eq!(end.lines, [""; 0]);
    assert_eq!(end.failure(), "exit status 1: there is an instance coins already: choose another slug");
}

#[tokio::test]
async fn provision_refuses_the_slug_of_another_system() {
    let server = builder().set("systems", json!([{ "slug": "atlas", "url": "https://atlas.example" }])).start().await;
    let before = systems(&server).await;
    let said = fails(&server, "provision", &[&form("atlas")]).await;
    assert_eq!(said, "there is a system atlas already, which is not an instance: choose another slug");
    assert_eq!(systems(&server).await, before);
    Home::of(&server).has_nothing();
}
