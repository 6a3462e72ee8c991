"""What AWS says when it fails: every exception of its SDK and every documented code has a meaning of its own."""

from __future__ import annotations

import inspect
from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)

from providers.aws.errors import CODES, EXCEPTIONS, translate
from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidRequest,
    ProviderError,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
)

# "Error codes for the Amazon EC2 API", read in November 2026: those of every action, those of the server, and those of
# the actions that are called here.
COMMON = """AuthFailure Blocked DryRunOperation IdempotentParameterMismatch IncompleteSignature InvalidAction
    InvalidCharacter InvalidClientTokenId InvalidPaginationToken InvalidParameter InvalidParameterCombination
    InvalidParameterDependency InvalidParameterValue InvalidQueryParameter MalformedQueryString MissingAction
    MissingAuthenticationToken MissingParameter OptInRequired PendingVerification RequestExpired UnauthorizedOperation
    UnknownParameter UnsupportedInstanceAttribute UnsupportedOperation UnsupportedProtocol ValidationError"""
SERVER = """InsufficientAddressCapacity InsufficientCapacity InsufficientInstanceCapacity InsufficientHostCapacity
    InsufficientReservedInstanceCapacity InsufficientVolumeCapacity InternalError InternalFailure RequestLimitExceeded
    ServiceUnavailable Unavailable"""
OF_ACTIONS = """CannotDelete ConcurrentTagAccess DefaultVpcDoesNotExist DependencyViolation FilterLimitExceeded
    IdempotentInstanceTerminated IncorrectInstanceState IncorrectState InstanceLimitExceeded InsufficientCapacityOnHost
    InsufficientFreeAddressesInSubnet InvalidAMIID.Malformed InvalidAMIID.NotFound InvalidAMIID.Unavailable
    InvalidBlockDeviceMapping InvalidFilter InvalidGroup.Duplicate InvalidGroup.InUse InvalidGroup.NotFound
    InvalidGroup.Reserved InvalidGroupId.Malformed InvalidID InvalidInstanceID InvalidInstanceID.Malformed
    InvalidInstanceID.NotFound InvalidKey.DoesNotExist InvalidNetworkInterface.InUse InvalidNetworkInterfaceID.NotFound
    InvalidNextToken InvalidRequest InvalidSecurityGroupID.NotFound InvalidSnapshot.NotFound
    InvalidSpotInstanceRequestID.Malformed InvalidSpotInstanceRequestID.NotFound InvalidState InvalidSubnet
    InvalidSubnetID.NotFound InvalidTagKey.Malformed InvalidTime InvalidUserData.Malformed InvalidVolume.NotFound
    InvalidVpcID.NotFound MaxIOPSLimitExceeded MaxSpotInstanceCountExceeded NetworkInterfaceLimitExceeded NoSuchVersion
    OperationNotPermitted PrivateIpAddressLimitExceeded RequestResourceCountExceeded ResourceCountExceeded
    ResourceLimitExceeded SecurityGroupLimitExceeded SecurityGroupsPerInstanceLimitExceeded SpotMaxPriceTooLow
    TagLimitExceeded UnfulfillableCapacity UnknownPrincipalType.Unsupported Unsupported VPCIdNotSpecified
    VPCResourceNotSpecified VcpuLimitExceeded VolumeLimitExceeded VolumeTypeNotAvailableInZone"""


def refused(code: str, status: int = 400, message: str = "no") -> ClientError:
    """AWS's answer with that code."""
    reply: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(reply, "RunInstances")


def meaning(error: Exception, **how: Any) -> ProviderError:
    """What it means to us."""
    return translate(error, "RunInstances in us-east-1", **how)


def test_every_exception_of_the_sdk_has_a_meaning() -> None:
    """When botocore grows an exception, somebody must say what it means."""
    kinds = [kind for _, kind in inspect.getmembers(botocore.exceptions, inspect.isclass)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, Exception) and not issubclass(kind, Warning)}

    assert names == set(EXCEPTIONS) & names
    assert set() == set(EXCEPTIONS) - names, "a name of no exception"


def test_every_documented_code_has_a_meaning() -> None:
    """A code without a meaning would be guessed at."""
    assert [] == [code for code in f"{COMMON} {SERVER} {OF_ACTIONS}".split() if code not in CODES]


@pytest.mark.parametrize(
    ("code", "kind", "scope"),
    [
        ("InsufficientInstanceCapacity", CapacityError, "zone"),
        ("Unsupported", CapacityError, "zone"),
        ("SpotMaxPriceTooLow", CapacityError, "zone"),
        ("VcpuLimitExceeded", QuotaError, "region"),
        ("MaxSpotInstanceCountExceeded", QuotaError, "region"),
        ("InvalidAMIID.NotFound", InvalidRequest, "region"),
        ("VPCIdNotSpecified", InvalidRequest, "region"),
        ("AuthFailure", AuthError, None),
        ("ExpiredToken", AuthError, None),
        ("UnauthorizedOperation", AuthError, None),
        ("RequestLimitExceeded", RateLimited, None),
        ("InternalError", ProviderUnavailable, None),
        ("IdempotentParameterMismatch", InvalidRequest, None),
    ],
)
def test_a_code_says_which_error_and_where_to_go_next(code: str, kind: type[ProviderError], scope: str | None) -> None:
    """Capacity moves on to the next zone, a quota to the next region, credentials stop at once."""
    error = meaning(refused(code))

    assert (kind, scope, code) == (type(error), error.next_scope, error.code)
    assert code in error.what


def test_a_message_never_decides() -> None:
    """A wrong key whose message speaks of capacity is still a wrong key."""
    assert isinstance(meaning(refused("AuthFailure", message="InsufficientInstanceCapacity: quota")), AuthError)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, InvalidRequest), (403, AuthError), (429, RateLimited), (500, ProviderUnavailable)]
)
def test_an_unknown_code_is_read_by_its_status(status: int, kind: type[ProviderError]) -> None:
    """AWS adds codes; none of them may pass for something that was not said."""
    assert isinstance(meaning(refused("BrandNew", status)), kind)


@pytest.mark.parametrize(
    "error",
    [
        ReadTimeoutError(endpoint_url="https://ec2"),
        ConnectionClosedError(endpoint_url="https://ec2"),
        refused("InternalError", 500),
        refused("Unavailable", 503),
        refused("BrandNew", 502),
    ],
)
def test_a_create_that_may_have_been_carried_out_is_ambiguous(error: Exception) -> None:
    """It is replayed with the same token; a read that fails the same way is just asked again."""
    assert isinstance(meaning(error, changes=True), AmbiguousOutcome)
    assert isinstance(meaning(error), ProviderUnavailable)


@pytest.mark.parametrize(
    "error", [EndpointConnectionError(endpoint_url="https://ec2"), ConnectTimeoutError(endpoint_url="https://ec2")]
)
def test_a_request_that_was_never_sent_made_nothing(error: Exception) -> None:
    """Without a connection nothing can have come of it."""
    assert isinstance(meaning(error, changes=True), ProviderUnavailable)


def test_capacity_that_comes_as_a_server_error_is_known_to_have_made_nothing() -> None:
    """EC2 sends it with status 500."""
    assert isinstance(meaning(refused("InsufficientInstanceCapacity", 500), changes=True), CapacityError)


def test_an_expired_single_sign_on_says_how_to_log_in_again() -> None:
    """With the profile that was used."""
    assert "aws sso login --profile work" in meaning(UnauthorizedSSOTokenError(), profile="work").fix
    assert "aws configure" in meaning(NoCredentialsError()).fix


def test_long_messages_are_cut() -> None:
    """EC2 adds an encoded message of a thousand characters to a missing right."""
    assert len(meaning(refused("UnauthorizedOperation", message="x" * 2000)).why) < 500
