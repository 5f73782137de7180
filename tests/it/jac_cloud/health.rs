//! What §5.1 says.

use reqwest::Method;

super::rows! { "5.1 health";
    healthz "`GET /healthz`" |app| {
        let answer = app.nobody().request(Method::GET, "/healthz").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }
}
