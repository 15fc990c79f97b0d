"""Errors of AWS and its library as one sentence with advice."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from labs.runtime.errors import InputError

_LOG_IN = "run `aws configure` or `aws sso login`, or set AWS_PROFILE"

_ADVICE = (
    # (pattern of the error's class or of AWS's code, advice); the first match counts
    (
        r"NoCredentials|PartialCredentials|CredentialRetrieval|UnknownCredential|NoAuthToken",
        _LOG_IN,
    ),
    (r"SSO|Login|TokenRetrieval|Expired|RefreshWithMFA|RequestTimeTooSkewed", _LOG_IN),
    (r"InvalidClientTokenId|UnrecognizedClient|AuthFailure|InvalidAccessKeyId", _LOG_IN),
    (r"SignatureDoesNotMatch|IncompleteSignature|InvalidToken|MissingAuthentication", _LOG_IN),
    (r"ProfileNotFound|Config", "see AWS_PROFILE and ~/.aws/config"),
    (r"NoRegion|InvalidRegion|UnknownRegion|OptInRequired", "see `region` in the cluster file"),
    (
        r"AccessDenied|Unauthorized|Forbidden|^403$|NotAuthorized",
        "use credentials that may use EC2, S3 and IAM",
    ),
    (r"Throttl|LimitExceeded|TooManyRequests|SlowDown|Capacity", "wait a minute and try again"),
    (r"Proxy", "see HTTPS_PROXY"),
    (r"SSL", "see AWS_CA_BUNDLE and the clock of this machine"),
    (r"Endpoint|Connect|Timeout|HTTPClient", "see `region` in the cluster file, and the network"),
    (r"InternalError|ServiceUnavailable|InternalFailure|^5\d\d$", "try again later"),
    (r"ParamValidation|Validation|InvalidParameter|Malformed", "see the cluster file"),
)


def explain(error: BaseException) -> str:
    """The message of AWS or its library in one line, with advice."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    details = response.get("Error", {})
    name = details.get("Code") or type(error).__name__
    operation = getattr(error, "operation_name", None)
    said = " ".join(str(details.get("Message") or error).split()).rstrip(".:")
    said = re.sub(r" Encoded authorization failure message:.*", "", said)
    advice = next((text for pattern, text in _ADVICE if re.search(pattern, name)), None)
    what = f"AWS refused {operation} ({name})" if operation else "AWS cannot be used"
    return f"{what}: {said}" + (f"; {advice}" if advice else "")


@contextlib.contextmanager
def aws_errors() -> Iterator[None]:
    """Turn errors of AWS and its library inside the block into :class:`InputError`."""
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise InputError(
            "boto3 is not installed: pip install 'labs[cluster]', or `make install`"
        ) from None
    try:
        yield
    # ValueError and OSError come from an invalid AWS_ENDPOINT_URL, AWS_MAX_ATTEMPTS or AWS_CA_BUNDLE.
    except (BotoCoreError, ClientError, Boto3Error, ValueError, OSError) as error:
        raise InputError(explain(error)) from None
