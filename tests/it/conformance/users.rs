//! Users, identities and secrets.

use super::*;

fn user(env: &Env, email: &str) -> User {
    User {
        id: Key(env.id()),
        email: email.to_owned(),
        password: "hash".to_owned(),
        root_id: Key(env.id()),
        is_activated: true,
        is_admin: false,
        created_at: env.now(),
        version: 1,
        sessions: Vec::new(),
        tickets: Vec::new(),
        webhook_keys: Vec::new(),
        sso: BTreeMap::new(),
        is_verified: false,
        fields: walkabout_schema::Fields::default(),
    }
}

pub(super) async fn users_change_one_at_a_time(store: &Shared, env: &Env) {
    let root = Arc::new(node(env, None, &json!({})));
    let bob = user(env, "bob@example.com");
    assert!(!store.change_user(bob.clone()).await.unwrap(), "there is none");
    store.register(bob.clone(), Some(root)).await.unwrap();
    let session = |state: &str| Session { state: state.to_owned(), ends_at: env.now() };
    let changes = (0..20).map(|n| {
        let changed = User { sessions: vec![session(&n.to_string())], ..bob.clone() };
        store.change_user(changed)
    });
    let changed = futures_util::future::join_all(changes).await;
    assert_eq!(changed.iter().filter(|changed| *changed.as_ref().unwrap()).count(), 1);
    let stored = store.user("bob@example.com").await.unwrap().unwrap();
    assert_eq!((stored.version, stored.sessions.len()), (2, 1));
    assert_eq!(User { version: 1, sessions: Vec::new(), ..stored.clone() }, bob);
    assert_eq!(store.users_of(bob.root_id.0).await.unwrap(), std::slice::from_ref(&stored));
    let another = User { id: Key(env.id()), ..stored.clone() };
    assert!(!store.change_user(another).await.unwrap(), "of that address is another user");
    let emptied = User { sessions: Vec::new(), password: "other".to_owned(), ..stored };
    assert!(store.change_user(emptied.clone()).await.unwrap());
    let stored = store.user("bob@example.com").await.unwrap();
    assert_eq!(stored, Some(User { version: 3, ..emptied }));
}

pub(super) async fn users_go_with_the_submission_of_a_run(store: &Shared, env: &Env) {
    let gus = user(env, "gus@example.com");
    assert_eq!(store.register(gus.clone(), None).await.unwrap(), Registered::New);
    let run = || Submission { walker: walker(env, Uuid::nil()), key: None };
    let (stale, of_another) = (User { version: 2, ..gus.clone() }, User { id: Key(env.id()), ..gus.clone() });
    for user in [stale, of_another, user(env, "nobody@example.com")] {
        let run = run();
        let id = run.walker.id.0;
        assert!(!store.remove_user(user, None, Some(run)).await.unwrap());
        assert!(store.run(id).await.unwrap().is_none(), "nothing is submitted");
    }
    assert_eq!(store.user("gus@example.com").await.unwrap(), Some(gus.clone()));
    let run = run();
    let id = run.walker.id.0;
    assert!(store.remove_user(gus.clone(), None, Some(run)).await.unwrap());
    assert_eq!(store.user("gus@example.com").await.unwrap(), None);
    assert_eq!(store.users_of(gus.root_id.0).await.unwrap(), []);
    assert_eq!(store.run(id).await.unwrap().unwrap().run.state, State::Queued);
    let claim = take(store, env, id).await;
    let ended = Commit { run: Some(finish(&claim, env, None)), ..Commit::default() };
    store.commit(env.now(), ended).await.unwrap();
    assert!(
        !store.change_user(gus.clone()).await.unwrap()
            && !store.remove_user(gus.clone(), None, None).await.unwrap()
    );

    // The address is free again, also for who comes at the same moment.
    let mut before = user(env, "gus@example.com");
    assert_eq!(store.register(before.clone(), None).await.unwrap(), Registered::New);
    for _ in 0..20 {
        let next = user(env, "gus@example.com");
        let (removed, registered) =
            tokio::join!(store.remove_user(before.clone(), None, None), store.register(next.clone(), None));
        assert!(removed.unwrap());
        if registered.unwrap() == Registered::Taken {
            assert_eq!(store.register(next.clone(), None).await.unwrap(), Registered::New);
        }
        assert_eq!(store.user("gus@example.com").await.unwrap(), Some(next.clone()));
        assert_eq!(store.users_of(before.root_id.0).await.unwrap(), []);
        before = next;
    }
    assert!(store.remove_user(before, None, None).await.unwrap());
}

pub(super) async fn of_two_who_need_each_other_one_stays(store: &Shared, env: &Env) {
    let root = Arc::new(node(env, None, &json!({})));
    let administrator = |email: &str| User { is_admin: true, root_id: Key(root.id), ..user(env, email) };
    let (one, other) = (administrator("olga@example.com"), administrator("otto@example.com"));
    let plain = User { is_admin: false, ..administrator("olaf@example.com") };
    let elsewhere = User { root_id: Key(env.id()), ..administrator("oscar@example.com") };
    for (user, root) in [(&one, Some(root.clone())), (&plain, None), (&elsewhere, None)] {
        assert_eq!(store.register(user.clone(), root).await.unwrap(), Registered::New);
    }
    // These are none, or not of that root.
    for stays in [&one, &other, &plain, &elsewhere] {
        assert!(!store.remove_user(one.clone(), Some(stays.clone()), None).await.unwrap(), "{}", stays.email);
    }
    for _ in 0..20 {
        assert_eq!(store.register(other.clone(), None).await.unwrap(), Registered::New);
        let removed = tokio::join!(
            store.remove_user(one.clone(), Some(other.clone()), None),
            store.remove_user(other.clone(), Some(one.clone()), None),
        );
        let (gone, stays) = match (removed.0.unwrap(), removed.1.unwrap()) {
            (true, false) => (&one, &other),
            (false, true) => (&other, &one),
            both => panic!("{both:?}"),
        };
        assert_eq!(store.user(&gone.email).await.unwrap(), None);
        assert_eq!(store.user(&stays.email).await.unwrap().as_ref(), Some(stays));
        if gone.email == one.email {
            assert_eq!(store.register(one.clone(), None).await.unwrap(), Registered::New);
            assert!(store.remove_user(other.clone(), Some(one.clone()), None).await.unwrap());
        }
    }
}

pub(super) async fn users_are_unique(store: &Shared, env: &Env) {
    let root = || Arc::new(node(env, None, &json!({})));
    let ann = user(env, "ann@example.com");
    assert_eq!(store.register(ann.clone(), Some(root())).await.unwrap(), Registered::New);
    let other_root = root();
    let again_user = user(env, "ann@example.com");
    let again = store.register(again_user.clone(), Some(Arc::clone(&other_root))).await.unwrap();
    assert_eq!(again, Registered::Taken);
    assert_eq!(store.user("ann@example.com").await.unwrap(), Some(ann.clone()));
    assert_eq!(store.user("Ann@example.com").await.unwrap(), None);
    assert!(load(store, Kind::Node, other_root.id).await.is_none(), "nothing was written");
    assert_eq!(store.users_of(again_user.root_id.0).await.unwrap(), []);
    let (mut one, mut two) = (user(env, "one@example.com"), user(env, "two@example.com"));
    (one.root_id, two.root_id) = (ann.root_id, ann.root_id);
    for user in [&two, &one] {
        store.register(user.clone(), None).await.unwrap();
    }
    let of_ann = ann.root_id.0;
    let all = [ann, one, two.clone()];
    assert_eq!(store.users_of(of_ann).await.unwrap(), all, "all that act as one root");
    let moved = User { root_id: Key(env.id()), ..two };
    assert!(store.change_user(moved.clone()).await.unwrap());
    assert_eq!(store.users_of(of_ann).await.unwrap(), all[..2]);
    assert_eq!(store.users_of(moved.root_id.0).await.unwrap(), [User { version: 2, ..moved }]);
}

pub(super) async fn an_identity_is_of_one_user(store: &Shared, env: &Env) {
    let at_home =
        |id: &str| Identity { id: id.to_owned(), email: "x@example.com".to_owned(), issuer: String::new() };
    let with = |user: &User, sso: &[(&str, &str)]| User {
        sso: sso.iter().map(|(provider, id)| ((*provider).to_owned(), at_home(id))).collect(),
        ..user.clone()
    };
    let known = async |provider: &str, id: &str| {
        store.user_of_identity(provider, id).await.unwrap().map(|user| user.email)
    };
    let [cat, dan, eve] = ["cat", "dan", "eve"].map(|name| user(env, &format!("{name}@example.com")));
    let cat = with(&cat, &[("home", "1"), ("work", "1")]);
    assert_eq!(store.register(cat.clone(), None).await.unwrap(), Registered::New);
    assert_eq!(store.user_of_identity("home", "1").await.unwrap(), Some(cat.clone()));
    assert_eq!((known("home", "2").await, known("hom", "e1").await), (None, None));
    assert_eq!(store.register(with(&dan, &[("work", "1")]), None).await.unwrap(), Registered::Taken);
    assert_eq!(store.user(&dan.email).await.unwrap(), None, "nothing was written");

    for user in [&dan, &eve] {
        store.register(user.clone(), None).await.unwrap();
    }
    let taken = store.change_user(with(&dan, &[("home", "1"), ("work", "2")])).await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    assert_eq!((known("home", "1").await, known("work", "2").await), (Some(cat.email.clone()), None));
    // Of many at once one has it.
    let both = [&dan, &eve].map(|user| store.change_user(with(user, &[("home", "3")])));
    let both = futures_util::future::join_all(both).await;
    assert_eq!(both.iter().filter(|changed| matches!(changed, Ok(true))).count(), 1, "{both:?}");
    assert_eq!(
        both.iter().filter(|changed| matches!(changed, Err(Error::Conflict(_)))).count(),
        1,
        "{both:?}"
    );
    let owner = known("home", "3").await.unwrap();
    assert!([&dan.email, &eve.email].contains(&&owner));

    // One that is given up is free, the others stay, and a user who has it keeps it over other changes.
    let cat = store.user(&cat.email).await.unwrap().unwrap();
    assert!(store.change_user(with(&cat, &[("work", "1")])).await.unwrap());
    assert_eq!((known("home", "1").await, known("work", "1").await), (None, Some(cat.email.clone())));
    let cat = store.user(&cat.email).await.unwrap().unwrap();
    assert!(store.change_user(User { is_verified: true, ..cat.clone() }).await.unwrap());
    let owner = store.user(&owner).await.unwrap().unwrap();
    assert!(store.change_user(with(&owner, &[("home", "1")])).await.unwrap());
    assert_eq!((known("home", "1").await, known("home", "3").await), (Some(owner.email), None));
    assert_eq!(known("work", "1").await, Some(cat.email.clone()));
    // Who goes gives up all.
    let cat = store.user(&cat.email).await.unwrap().unwrap();
    assert!(store.remove_user(cat, None, None).await.unwrap());
    assert_eq!(known("work", "1").await, None);
    let heir = with(&user(env, "heir@example.com"), &[("work", "1")]);
    assert_eq!(store.register(heir, None).await.unwrap(), Registered::New);
}

pub(super) async fn what_is_spent_is_spent_once(store: &Shared, env: &Env) {
    let until = env.now().plus(std::time::Duration::from_secs(600));
    let spends = (0..20).map(|_| store.spend([7; 32], env.now(), until));
    let spent = futures_util::future::join_all(spends).await;
    assert_eq!(spent.iter().filter(|spent| *spent.as_ref().unwrap()).count(), 1);
    assert!(store.spend([8; 32], env.now(), until).await.unwrap(), "another is another");
    assert!(!store.spend([7; 32], env.now(), until).await.unwrap());
}

pub(super) async fn secrets_are_kept(store: &Shared) {
    assert_eq!(store.keep("a", vec![1]).await.unwrap(), [1]);
    assert_eq!(store.keep("a", vec![2]).await.unwrap(), [1]);
    assert_eq!(store.keep("b", vec![3]).await.unwrap(), [3]);
}
