//! Errors as callers see them: RFC 9457 problem details with a stable code.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::bus::BusError;
use reelmill_platform::store::StoreError;
use serde::Serialize;

use crate::assets::ApplyError;
use crate::engine::EngineError;
use crate::plans::PlanningError;
use crate::quotas::OverQuota;
use crate::state::NotTaken;
use crate::uploads::{AdvanceError, FinishError};

/// Whoever has too many uploads going on asks again after so many seconds.
const AT_ONCE_WAIT_S: u32 = 5;

/// Stable codes of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// No key, or one that nobody has.
    Unauthorized,
    /// The caller is known, and may not do this.
    Forbidden,
    /// No such path.
    UnknownPath,
    /// The path does not do this.
    MethodNotAllowed,
    /// What stands where an id belongs is none.
    InvalidId,
    /// A header or a query cannot be understood.
    InvalidRequest,
    /// The asset is not there, or is another tenant's.
    UnknownAsset,
    /// The asset was deleted.
    AssetGone,
    /// The upload is not there, or is another tenant's.
    UnknownUpload,
    /// The asset has no captions in this language.
    UnknownCaptions,
    /// The purge is not there, or was asked for by another tenant.
    UnknownPurge,
    /// Nothing was said of who may watch this.
    UnknownPolicy,
    /// The token key is not there, or is another tenant's.
    UnknownTokenKey,
    /// The tenant calls no profile so.
    UnknownProfile,
    /// Nothing is known of such a worker.
    UnknownWorker,
    /// What is sent is neither WebVTT nor SubRip.
    NotCaptions,
    /// An asset cannot be made by this profile.
    UnfitProfile,
    /// It does not go with what is there.
    Conflict,
    /// The upload was there and takes no more bytes.
    UploadGone,
    /// Nothing was uploaded.
    Empty,
    /// Fewer bytes came than were declared.
    Incomplete,
    /// More bytes than may come.
    TooLarge,
    /// No byte came for too long.
    Timeout,
    /// The upload goes on somewhere else.
    OffsetMismatch,
    /// A newer request writes to the same upload.
    ConcurrentUpload,
    /// The bytes are not those that their checksum means.
    ChecksumMismatch,
    /// A final upload takes no bytes of its own.
    FinalUpload,
    /// A part of a final upload is not finished.
    UnfinishedPart,
    /// Nothing is pulled from there.
    OriginRefused,
    /// Not the version of tus that is spoken here.
    UnsupportedVersion,
    /// Not the media type that belongs here.
    UnsupportedMediaType,
    /// More uploads at once or in a minute than this tenant may have.
    TooManyUploads,
    /// Too many uploads at once.
    Busy,
    /// More waits than the fleet can do soon.
    Overloaded,
    /// Something behind this does not answer, or this process stops.
    Unavailable,
    /// Our own fault.
    Internal,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::UnknownPath
            | Code::UnknownAsset
            | Code::UnknownUpload
            | Code::UnknownCaptions
            | Code::UnknownPurge
            | Code::UnknownPolicy
            | Code::UnknownTokenKey
            | Code::UnknownProfile
            | Code::UnknownWorker => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::InvalidId | Code::InvalidRequest | Code::Incomplete | Code::UnfinishedPart => {
                StatusCode::BAD_REQUEST
            }
            Code::FinalUpload | Code::Forbidden => StatusCode::FORBIDDEN,
            Code::TooManyUploads => StatusCode::TOO_MANY_REQUESTS,
            // By the tus protocol; HTTP itself has no name for it.
            Code::ChecksumMismatch => StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST),
            Code::UploadGone | Code::AssetGone => StatusCode::GONE,
            Code::Empty | Code::OriginRefused | Code::NotCaptions | Code::UnfitProfile => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::OffsetMismatch | Code::ConcurrentUpload | Code::Conflict => StatusCode::CONFLICT,
            Code::UnsupportedVersion => StatusCode::PRECONDITION_FAILED,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Busy | Code::Overloaded | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error on its way to a caller.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The body.
#[derive(Debug, Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    code: Code,
    detail: &'a str,
}

impl Problem {
    /// `detail` is one clear sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        let mut headers = Vec::new();
        match code {
            Code::Unauthorized => {
                headers
                    .push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"reelmill\"")));
            }
            Code::Busy | Code::Unavailable => {
                headers.push((header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            Code::UnsupportedVersion => {
                headers.push((HeaderName::from_static("tus-version"), HeaderValue::from_static("1.0.0")));
            }
            Code::Forbidden
            | Code::UnknownPath
            | Code::Overloaded
            | Code::TooManyUploads
            | Code::MethodNotAllowed
            | Code::InvalidId
            | Code::InvalidRequest
            | Code::UnknownAsset
            | Code::AssetGone
            | Code::UnknownUpload
            | Code::UnknownCaptions
            | Code::UnknownPurge
            | Code::UnknownPolicy
            | Code::UnknownTokenKey
            | Code::UnknownProfile
            | Code::UnknownWorker
            | Code::NotCaptions
            | Code::UnfitProfile
            | Code::Conflict
            | Code::UploadGone
            | Code::Empty
            | Code::Incomplete
            | Code::TooLarge
            | Code::Timeout
            | Code::OffsetMismatch
            | Code::ConcurrentUpload
            | Code::ChecksumMismatch
            | Code::FinalUpload
            | Code::UnfinishedPart
            | Code::OriginRefused
            | Code::UnsupportedMediaType
            | Code::Internal => {}
        }
        Problem { code, detail: detail.into(), headers }
    }

    /// The same with another header.
    pub fn with(mut self, name: &'static str, value: impl Into<HeaderValue>) -> Problem {
        self.headers.push((HeaderName::from_static(name), value.into()));
        self
    }

    /// How an asset ends whose upload ended so; `None` where the upload may go on.
    pub const fn failure_code(&self) -> Option<FailureCode> {
        match self.code {
            Code::Empty => Some(FailureCode::Empty),
            Code::Incomplete | Code::Timeout => Some(FailureCode::Incomplete),
            Code::TooLarge => Some(FailureCode::TooLarge),
            Code::Unavailable | Code::Internal => Some(FailureCode::Internal),
            Code::Unauthorized
            | Code::Forbidden
            | Code::Overloaded
            | Code::TooManyUploads
            | Code::UnknownPath
            | Code::MethodNotAllowed
            | Code::InvalidId
            | Code::InvalidRequest
            | Code::UnknownAsset
            | Code::AssetGone
            | Code::UnknownUpload
            | Code::UnknownCaptions
            | Code::UnknownPurge
            | Code::UnknownPolicy
            | Code::UnknownTokenKey
            | Code::UnknownProfile
            | Code::UnknownWorker
            | Code::NotCaptions
            | Code::UnfitProfile
            | Code::Conflict
            | Code::UploadGone
            | Code::OffsetMismatch
            | Code::ConcurrentUpload
            | Code::ChecksumMismatch
            | Code::FinalUpload
            | Code::UnfinishedPart
            | Code::OriginRefused
            | Code::UnsupportedVersion
            | Code::UnsupportedMediaType
            | Code::Busy => None,
        }
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let title = status.canonical_reason().unwrap_or("Checksum Mismatch");
        let body = Body { title, status: status.as_u16(), code: self.code, detail: &self.detail };
        // Texts and numbers always serialise.
        let mut response = (status, serde_json::to_vec(&body).unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

fn unavailable(error: &impl std::error::Error) -> Problem {
    tracing::warn!(%error, "answered that the service is unavailable");
    Problem::new(Code::Unavailable, "The service cannot do this at the moment; try again.")
}

impl From<OverQuota> for Problem {
    fn from(over: OverQuota) -> Problem {
        let detail = over.to_string();
        match over {
            OverQuota::TooLarge { .. } => Problem::new(Code::TooLarge, detail),
            OverQuota::Busy => Problem::new(Code::Busy, detail),
            OverQuota::Unknown => Problem::new(Code::Unavailable, detail),
            OverQuota::TooManyAtOnce { .. } => Problem::new(Code::TooManyUploads, detail)
                .with("retry-after", HeaderValue::from(AT_ONCE_WAIT_S)),
            OverQuota::TooOften { wait, .. } => {
                let seconds = wait.as_secs_f64().ceil() as u64;
                Problem::new(Code::TooManyUploads, detail).with("retry-after", HeaderValue::from(seconds))
            }
        }
    }
}

impl From<NotTaken> for Problem {
    fn from(not_taken: NotTaken) -> Problem {
        let code = match not_taken {
            NotTaken::Name | NotTaken::Description | NotTaken::Metadata => Code::InvalidRequest,
            NotTaken::Captions | NotTaken::CaptionsName(_) => Code::Conflict,
        };
        let sentence = not_taken.to_string();
        let (first, rest) = sentence.split_at(1);
        Problem::new(code, format!("{}{rest}.", first.to_uppercase()))
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Problem {
        unavailable(&error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        unavailable(&error)
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Problem {
        unavailable(&error)
    }
}

impl From<PlanningError> for Problem {
    fn from(error: PlanningError) -> Problem {
        match error {
            PlanningError::Refused(Failure { reason, .. }) => Problem::new(
                Code::UnfitProfile,
                format!("This asset cannot be made by this profile: {reason}"),
            ),
            PlanningError::Store(error) => unavailable(&*error),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Problem {
        unavailable(&error)
    }
}

impl From<FinishError> for Problem {
    fn from(error: FinishError) -> Problem {
        unavailable(&error)
    }
}

impl From<AdvanceError> for Problem {
    fn from(error: AdvanceError) -> Problem {
        match error {
            AdvanceError::Raced => Problem::new(
                Code::ConcurrentUpload,
                "A newer request writes to this upload; ask for its offset and go on from there.",
            ),
            AdvanceError::Bus(error) => unavailable(&error),
        }
    }
}
