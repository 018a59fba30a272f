//! What this edge answers its peers.

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::ask::{BlobHead, Question, TextHead};
use crate::body::Body;
use crate::cache::BlobCache;
use crate::playlists::Playlists;
use crate::problem::problem;
use crate::route::{self, Action, MutableObject, PublicBlob, Resource};

/// Answers a question that came in on the port for peers.
pub(crate) async fn answer(request: &Parts, blobs: &BlobCache, playlists: &Playlists) -> Response<Body> {
    let Some(question) = Question::read(&request.headers) else {
        return problem(StatusCode::BAD_REQUEST, "This is no question of a peer.");
    };
    if request.method != Method::GET {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "Peers ask with GET.");
    }
    match route::route(&request.method, request.uri.path()) {
        Ok(Action::Get(Resource::Blob(name))) => blob(name, question, blobs).await,
        Ok(Action::Get(Resource::Mutable(object))) => text(&object, question, playlists).await,
        Ok(Action::Get(_) | Action::Head(_) | Action::Options) => {
            problem(StatusCode::NOT_FOUND, "Every edge has this itself.")
        }
        Err(refusal) => refusal.response(),
    }
}

async fn blob(name: PublicBlob, question: Question, blobs: &BlobCache) -> Response<Body> {
    let (outcome, lookup) = blobs.get(name, question.asked).await;
    let mut response = match outcome {
        Ok(blob) => {
            let length = blob.length();
            let tree = blob.tree().map(|tree| tree.encode()).unwrap_or_default();
            let mut response = Response::new(Body::empty());
            let head = BlobHead { length, tree_bytes: tree.len() as u64 };
            head.write(response.headers_mut());
            *response.body_mut() = Body::proven(tree, &blob, question.from);
            response
        }
        Err(error) => error.response(),
    };
    response.extensions_mut().insert(lookup);
    with_length(response)
}

async fn text(object: &MutableObject, question: Question, playlists: &Playlists) -> Response<Body> {
    let found = playlists.get_for_peer(object, question.asked, question.within).await;
    let response = match found {
        Ok(held) => {
            let mut response = Response::new(Body::all(held.text.bytes().clone()));
            let head = TextHead { age: held.began.elapsed(), stale: held.stale };
            head.write(response.headers_mut());
            response
        }
        Err(error) => error.response(),
    };
    with_length(response)
}

fn with_length(mut response: Response<Body>) -> Response<Body> {
    let length = HeaderValue::from(response.body().length());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}
