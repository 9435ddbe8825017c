// SPDX-License-Identifier: Apache-2.0
// The journeys of a client of workflow runs, with the published Rust client and nothing changed but its address and key.
// tests/workflow/rust.mjs starts the server and gives MODELRELAY_TEST_URL, MODELRELAY_TEST_SECRET_KEY, and PLAN_TOOLS, the hash of
// a plan whose node "read" calls the client's tool fs_read_file once and then says "done". Prints a line per journey.
use futures_util::StreamExt;
use modelrelay::*;
use serde_json::{json, Value};
use std::{env, error::Error as StdError, time::Duration};

type Fault = Box<dyn StdError + Send + Sync>;
type Outcome = std::result::Result<(), Fault>;

fn spec(nodes: Value, from: &str) -> WorkflowIntentSpec {
    serde_json::from_value(json!({"kind": "workflow", "name": "rust", "model": "scripted/echo", "nodes": nodes,
        "outputs": [{"name": "reply", "from": from}]})).expect("a specification")
}

fn plain() -> WorkflowIntentSpec {
    spec(json!([{"id": "a", "type": "llm", "user": "Say: {{task}}", "stream": true}, {"id": "j", "type": "join.all", "depends_on": ["a"]}]), "j")
}

fn with_task(task: &str) -> RunsCreateOptions {
    RunsCreateOptions { input: Some([("task".to_string(), json!(task))].into()), ..Default::default() }
}

async fn followed(client: &Client, run: RunId, after: i64) -> std::result::Result<Vec<RunEventV0>, Fault> {
    let mut stream = client.runs().stream_events(run, Some(after), None).await?;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event?;
        event.validate()?;
        assert_eq!(event.seq(), after as u64 + events.len() as u64 + 1);
        events.push(event);
    }
    Ok(events)
}

async fn create_stream_get(client: &Client) -> Outcome {
    let made = client.runs().create_with_options(plain(), with_task("Grüße")).await?;
    let events = followed(client, made.run_id.clone(), 0).await?;
    assert!(matches!(events[0].payload, RunEventPayload::RunCompiled { .. }));
    assert!(matches!(events.last().unwrap().payload, RunEventPayload::RunCompleted { .. }));
    assert!(events.iter().any(|e| matches!(e.payload, RunEventPayload::NodeOutputDelta { .. })));
    let behind = followed(client, made.run_id.clone(), 4).await?;
    assert_eq!(behind, events[4..]);
    let run = client.runs().get(made.run_id).await?;
    assert_eq!(serde_json::to_value(&run.status)?, json!("succeeded"));
    assert_eq!(run.nodes.len(), 2);
    assert!(serde_json::to_string(&run.outputs["reply"])?.contains("Grüße"));
    Ok(())
}

async fn compile_and_create_from_plan(client: &Client) -> Outcome {
    let WorkflowsCompileResult::Ok(compiled) = client.workflows().compile(plain()).await? else { return Err("does not compile".into()) };
    let made = client.runs().create_from_plan_with_options(compiled.plan_hash.clone(), with_task("x")).await?;
    assert_eq!(made.plan_hash, compiled.plan_hash);
    followed(client, made.run_id, 0).await?;
    let broken = spec(json!([{"id": "a", "type": "llm", "user": "x", "depends_on": ["nobody"]}]), "nowhere");
    match client.workflows().compile(broken).await? {
        WorkflowsCompileResult::ValidationError(error) => assert!(!error.issues.is_empty()),
        _ => return Err("a broken specification compiles".into()),
    }
    let unknown: PlanHash = serde_json::from_value(json!("a".repeat(64)))?;
    assert!(client.runs().create_from_plan(unknown).await.is_err());
    Ok(())
}

async fn same_key_same_run(client: &Client) -> Outcome {
    let options = || RunsCreateOptions { idempotency_key: Some("rust-1".into()), ..with_task("once") };
    let one = client.runs().create_with_options(plain(), options()).await?;
    let two = client.runs().create_with_options(plain(), options()).await?;
    assert_eq!(one.run_id, two.run_id);
    Ok(())
}

async fn pending_tools_and_results(client: &Client) -> Outcome {
    let plan: PlanHash = serde_json::from_value(json!(env::var("PLAN_TOOLS")?))?;
    let made = client.runs().create_from_plan(plan).await?;
    let mut stream = client.runs().stream_events(made.run_id.clone(), None, None).await?;
    let waiting = loop {
        let event = stream.next().await.ok_or("the stream ended")??;
        if let RunEventPayload::NodeWaiting { waiting, .. } = event.payload { break serde_json::to_value(&waiting)?; }
    };
    let pending = serde_json::to_value(client.runs().pending_tools(made.run_id.clone()).await?)?;
    let node = &pending["pending"][0];
    let call = &node["tool_calls"][0]["tool_call"];
    assert_eq!(waiting["pending_tool_calls"][0]["tool_call"], *call);
    assert_eq!(node["node_id"], "read");
    let request = || -> std::result::Result<RunsToolResultsRequest, Fault> {
        Ok(RunsToolResultsRequest {
            node_id: serde_json::from_value(node["node_id"].clone())?,
            step: node["step"].as_u64().unwrap(),
            request_id: serde_json::from_value(node["request_id"].clone())?,
            results: vec![RunsToolResultItemV0 {
                tool_call: RunsToolCallV0 {
                    id: serde_json::from_value(call["id"].clone())?, name: serde_json::from_value(call["name"].clone())?, arguments: None,
                },
                output: "no space left on device".into(),
            }],
        })
    };
    let mut wrong = request()?;
    wrong.step = 7;
    assert!(client.runs().submit_tool_results(made.run_id.clone(), wrong).await.is_err());
    assert_eq!(client.runs().submit_tool_results(made.run_id.clone(), request()?).await?.accepted, 1);
    assert_eq!(client.runs().submit_tool_results(made.run_id.clone(), request()?).await?.accepted, 1);
    let mut last = None;
    while let Some(event) = stream.next().await { last = Some(event?); }
    assert!(matches!(last.unwrap().payload, RunEventPayload::RunCompleted { .. }));
    let after = serde_json::to_value(client.runs().pending_tools(made.run_id).await?)?;
    assert!(after["pending"].as_array().is_none_or(|list| list.is_empty()));
    Ok(())
}

async fn sessions(client: &Client) -> Outcome {
    let session = client.sessions().create(SessionCreateRequest { customer_id: None, metadata: Default::default() }).await?;
    let id = session.id.to_string();
    let options = RunsCreateOptions { session_id: Some(id.parse()?), ..with_task("x") };
    let made = client.runs().create_with_options(spec(json!([{"id": "a", "type": "llm", "user": "{{task}}"}]), "a"), options).await?;
    followed(client, made.run_id, 0).await?;
    let message: SessionMessageCreateRequest = serde_json::from_value(json!({"role": "user", "content": [{"type": "text", "text": "hi"}]}))?;
    client.sessions().add_message(&id, message).await?;
    let whole = client.sessions().get(&id).await?;
    assert_eq!(whole.messages.len(), 2);
    assert!(!client.sessions().list(ListSessionsOptions::default()).await?.sessions.is_empty());
    client.sessions().delete(&id).await?;
    assert!(client.sessions().get(&id).await.is_err());
    Ok(())
}

async fn responses(client: &Client) -> Outcome {
    let whole = ResponseBuilder::new().model("gpt-4o-mini").user("hello").max_output_tokens(10).send(&client.responses()).await?;
    assert!(!whole.id.is_empty() && !whole.output.is_empty());
    assert!(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);
    let mut stream = ResponseBuilder::new().model("gpt-4o-mini").user("hello").stream(&client.responses()).await?;
    let mut kinds = Vec::new();
    while let Some(event) = stream.next().await { kinds.push(event?.kind); }
    assert!(matches!(kinds.first(), Some(StreamEventKind::MessageStart)));
    assert!(matches!(kinds.last(), Some(StreamEventKind::MessageStop)));
    Ok(())
}

async fn errors_have_their_code(client: &Client) -> Outcome {
    match client.runs().get(serde_json::from_value(json!("00000000-0000-4000-8000-000000000001"))?).await {
        Err(Error::Api(error)) => assert_eq!((error.status, error.code.as_deref()), (404, Some("NOT_FOUND"))),
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

#[tokio::main]
async fn main() {
    let key = SecretKey::parse(env::var("MODELRELAY_TEST_SECRET_KEY").expect("a key")).expect("a key");
    let config = Config { api_key: Some(key.into()), base_url: env::var("MODELRELAY_TEST_URL").ok(), ..Default::default() };
    let client = Client::new(config).expect("a client");
    let (mut passed, mut failed) = (0, 0);
    macro_rules! journey {
        ($name:ident) => {
            match tokio::time::timeout(Duration::from_secs(30), tokio::spawn({ let c = client.clone(); async move { $name(&c).await.map_err(|e| e.to_string()) } })).await {
                Ok(Ok(Ok(()))) => { passed += 1; println!("ok    {}", stringify!($name)); }
                other => { failed += 1; println!("FAIL  {}: {:?}", stringify!($name), other); }
            }
        };
    }
    journey!(create_stream_get);
    journey!(compile_and_create_from_plan);
    journey!(same_key_same_run);
    journey!(pending_tools_and_results);
    journey!(sessions);
    journey!(responses);
    journey!(errors_have_their_code);
    println!("{passed} passed, {failed} failed, 0 skipped");
    std::process::exit((failed > 0) as i32);
}
