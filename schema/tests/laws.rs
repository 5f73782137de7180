//! Laws of ids, times and access, over generated cases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to stop")]

use proptest::prelude::*;
use uuid::Uuid;
use walkabout_schema::{
    Access, EdgeId, ElementId, ErrorCode, Event, EventKind, Level, Name, NodeId, ObjectId, PUBLIC_ROOT,
    SYSTEM_ROOT, Timestamp, WalkerId, decide,
};

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z_][A-Za-z0-9_]{0,30}".prop_map(|text| Name::new(&text).unwrap())
}

/// Texts that the schema of a type allows.
fn pattern_of<T: schemars::JsonSchema>() -> impl Strategy<Value = String> {
    let schema = schemars::schema_for!(T);
    let pattern = schema.get("pattern").and_then(|pattern| pattern.as_str()).unwrap();
    proptest::string::string_regex(pattern.trim_matches(['^', '$'])).unwrap()
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::NoAccess), Just(Level::Read), Just(Level::Connect), Just(Level::Write)]
}

fn access(actor: Uuid) -> impl Strategy<Value = Access> {
    (level(), proptest::option::of(level())).prop_map(move |(all, entry)| {
        let mut access = Access::everybody(all);
        if let Some(level) = entry {
            access.roots.anchors.insert(NodeId::root(actor), level);
        }
        access
    })
}

proptest! {
    #[test]
    fn ids_are_their_texts(name in name(), bits in any::<u128>()) {
        let uuid = Uuid::from_u128(bits);
        for text in [
            NodeId::new(name.clone(), uuid).to_string(),
            EdgeId::new(name.clone(), uuid).to_string(),
            ObjectId::new(name.clone(), uuid).to_string(),
            WalkerId::new(name.clone(), uuid).to_string(),
            NodeId::root(uuid).to_string(),
        ] {
            let id: ElementId = text.parse().unwrap();
            prop_assert_eq!(id.to_string(), text.clone());
            prop_assert_eq!(format!("{id:?}"), text.clone());
            let (head, digits) = text.rsplit_once(':').unwrap();
            let loose = format!("{head}:{}", digits.replace('-', "").to_uppercase());
            prop_assert_eq!(&loose.parse::<ElementId>().unwrap(), &id);
            prop_assert_eq!(serde_json::from_value::<ElementId>(serde_json::to_value(&id).unwrap()).unwrap(), id);
        }
    }

    #[test]
    fn what_the_pattern_of_an_id_allows_is_one(text in pattern_of::<NodeId>(), other in pattern_of::<ElementId>()) {
        prop_assert!(text.parse::<NodeId>().is_ok(), "{text}");
        prop_assert!(other.parse::<ElementId>().is_ok(), "{other}");
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,80}") {
        if let Ok(id) = text.parse::<ElementId>() {
            prop_assert_eq!(id.to_string().parse::<ElementId>().unwrap(), id);
        }
    }

    #[test]
    fn times_are_their_texts_and_dates(millis in 0_i64..4_000_000_000_000) {
        let time = Timestamp::from_millis(millis);
        prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        prop_assert!(time.to_string().ends_with('Z'));
        let bytes = bson::serialize_to_vec(&bson::doc! { "at": bson::DateTime::from_millis(millis) }).unwrap();
        let read: std::collections::BTreeMap<String, Timestamp> = bson::deserialize_from_slice(&bytes).unwrap();
        prop_assert_eq!(read["at"], time);
    }

    #[test]
    fn an_entry_beats_the_owners_and_both_beat_all(
        own in access(Uuid::from_u128(7)),
        owners in access(Uuid::from_u128(7)),
    ) {
        let (actor, owner, id) = (Uuid::from_u128(7), Uuid::from_u128(8), Uuid::from_u128(9));
        let decided = decide(actor, id, Some(owner), &own, Some(&owners));
        let expected = own.of_root(actor).or(owners.of_root(actor)).unwrap_or(own.all.max(owners.all));
        prop_assert_eq!(decided, expected);
        for (actor, owner, id) in [(SYSTEM_ROOT, owner, id), (owner, owner, id), (actor, owner, actor)] {
            prop_assert_eq!(decide(actor, id, Some(owner), &own, Some(&owners)), Level::Write);
        }
    }
}

#[test]
fn well_known_roots_and_what_is_no_id() {
    assert_eq!(NodeId::root(SYSTEM_ROOT).to_string(), "n::00000000-0000-0000-0000-000000000000");
    assert_eq!(NodeId::root(PUBLIC_ROOT).to_string(), "n::00000000-0000-0000-0000-000000000001");
    for bad in [
        "",
        "n",
        "n:A",
        "n:A:",
        "x:A:00000000000000000000000000000000",
        "n:1A:00000000000000000000000000000000",
    ] {
        assert!(bad.parse::<ElementId>().is_err(), "{bad}");
    }
    let edge = "e::00000000000000000000000000000001";
    assert!(edge.parse::<EdgeId>().is_ok() && edge.parse::<NodeId>().is_err());
}

#[test]
fn events_are_the_same_in_both_formats() {
    let at = Timestamp::from_millis(1_767_225_600_123);
    let error = "why".to_owned();
    for event in [
        EventKind::Waiting { until: Some(at), waits_for: None },
        EventKind::Waiting { until: None, waits_for: Some("x".to_owned()) },
        EventKind::Retrying { error: error.clone(), code: ErrorCode::WalkerFailed, at },
        EventKind::Failed { error, code: ErrorCode::TimedOut },
    ] {
        let event = Event { seq: 1, at, attempt: 1, event };
        let bytes = bson::serialize_to_vec(&event).unwrap();
        assert_eq!(bson::deserialize_from_slice::<Event>(&bytes).unwrap(), event);
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
