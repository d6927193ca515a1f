//! What a tenant's own policies of the administration make of break-glass, and it of them.

use http::Method;
use remit_core::{Bundle, PrincipalKind, Role, Source};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

use super::{PATH, World, done, forbidden};

/// The starter bundle with a policy that shuts everybody out, break-glass included.
fn shut() -> Bundle {
    Bundle {
        admin: vec![Source {
            file: "admin/own.cedar".to_owned(),
            text: "@id(\"shut\") forbid (principal, action, resource);".to_owned(),
        }],
        ..pack("starter")
    }
}

#[tokio::test]
async fn a_lock_out_by_policies_is_cured_by_it() {
    let mut world = World::make().await;
    // Past the check that refuses it, as an older version or a restored database may have left it.
    world.test.put(&shut()).await;
    let test = &world.test;
    let everything = [Role::Admin, Role::Publisher];
    let tom = test.key_of(PrincipalKind::Person, "tom", &everything).await;
    let put = async |key: &str| {
        let request = test.request_with(key, Method::PUT, "/v1/bundle");
        test.send(request.header("if-match", "*"), json!(pack("starter")))
            .await
    };
    assert_eq!(forbidden(&put(&tom).await)["policies"], json!(["shut"]));
    let id = world.asked().await;
    forbidden(&put(&world.maya).await);
    done(&world.approve(&world.ben, &id).await);
    // Only what cures it goes past the tenant's policies.
    assert_eq!(
        forbidden(&world.loosen("more").await)["policies"],
        json!(["shut"])
    );
    forbidden(
        &test
            .as_key(&world.maya, Method::GET, "/v1/keys", &Value::Null)
            .await,
    );
    let jo = json!({ "kind": "person", "roles": ["admin"] });
    done(
        &test
            .as_key(&world.maya, Method::PUT, "/v1/principals/jo", &jo)
            .await,
    );
    done(&put(&world.maya).await);
    for action in ["put_principal", "put_bundle"] {
        let record = world.actions(action, "permit").await[0].clone();
        assert_eq!(record["break_glass"], json!(id), "{action}");
    }
    assert!(
        world
            .test
            .get("/v1/bundle")
            .await
            .json()
            .get("admin")
            .is_none()
    );
}

#[tokio::test]
async fn nobody_may_less_with_it_than_without() {
    let mut world = World::make().await;
    let gives = "@id(\"gives\") permit (principal == Person::\"maya\", action == Action::\"put_bundle\", resource);";
    let bundle = Bundle {
        admin: vec![Source {
            file: "admin/own.cedar".to_owned(),
            text: gives.to_owned(),
        }],
        ..pack("starter")
    };
    world.test.put(&bundle).await;
    let test = &world.test;
    let body = json!({ "principal": "maya", "roles": ["auditor"], "reason": "incident 4711" });
    let asked = test.as_key(&world.ana, Method::POST, PATH, &body).await;
    let id = asked.json()["id"].as_str().unwrap().to_owned();
    done(&world.approve(&world.ben, &id).await);
    let records = "/v1/admin/actions";
    done(
        &test
            .as_key(&world.maya, Method::GET, records, &Value::Null)
            .await,
    );
    let bundle = json!(bundle);
    done(
        &test
            .as_key(&world.maya, Method::PUT, "/v1/bundle", &bundle)
            .await,
    );
    let record = world.actions("put_bundle", "permit").await[0].clone();
    assert_eq!(record["determining"], json!(["gives"]));
    assert_eq!(record["break_glass"], Value::Null, "it was so without");
}
