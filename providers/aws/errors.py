"""What AWS says when it fails, as one of the errors of providers.base. By code and by class, never by a message.

Codes: "Error codes for the Amazon EC2 API" (EC2 developer guide, errors-overview), the API references of STS, Service
Quotas, Pricing, SSM, S3, IAM and EventBridge Scheduler; exceptions: botocore.exceptions. Read in November 2026.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Meaning(NamedTuple):
    """What a code means to us: the error, where else to try, and what the user can do."""

    error: type[ProviderError]
    next_scope: str | None = None
    fix: str = ""


NO_CAPACITY = Meaning(CapacityError, "zone")
QUOTA = Meaning(QuotaError, "region", "See your limits: https://console.aws.amazon.com/servicequotas")
WRONG_CREDENTIALS = Meaning(AuthError, None, "Run: aws configure, or set the variables of the right keys.")
EXPIRED = Meaning(AuthError, None, "Run: aws sso login, or renew your session's keys.")
NO_RIGHT = Meaning(AuthError, None, "Ask the account's administrator for this right (docs/aws.md lists all).")
ACCOUNT_HELD = Meaning(AuthError, None, "Look at the account's state: https://console.aws.amazon.com/billing")
TOO_MANY_CALLS = Meaning(RateLimited)
THEIR_FAULT = Meaning(ProviderUnavailable)
NO_NETWORK = Meaning(ProviderUnavailable, None, "Check the network, and AWS_ENDPOINT_URL if it is set.")
NOT_HERE = Meaning(InvalidRequest, "region")
"""What was asked for makes no sense in that region: another may do."""
OUR_MISTAKE = Meaning(InvalidRequest)
NOT_INSTALLED = Meaning(InvalidRequest, "provider", "Run: pip install --upgrade 'gpulaunch[aws]'")

CODES: dict[str, Meaning] = {
    code: meaning
    for meaning, codes in (
        (
            NO_CAPACITY,
            """InsufficientInstanceCapacity InsufficientHostCapacity InsufficientReservedInstanceCapacity
            InsufficientCapacityOnHost InsufficientVolumeCapacity InsufficientAddressCapacity InsufficientCapacity
            InsufficientFreeAddressesInSubnet UnfulfillableCapacity Unsupported SpotMaxPriceTooLow
            InstanceTypeNotSupported InvalidAvailabilityZone Server.InsufficientInstanceCapacity
            Server.InternalError""",
        ),
        (
            QUOTA,
            """VcpuLimitExceeded MaxSpotInstanceCountExceeded InstanceLimitExceeded VolumeLimitExceeded
            MaxIOPSLimitExceeded SecurityGroupLimitExceeded NetworkInterfaceLimitExceeded AddressLimitExceeded
            SecurityGroupsPerInstanceLimitExceeded PrivateIpAddressLimitExceeded AttachmentLimitExceeded
            ResourceCountExceeded ResourceLimitExceeded LimitExceeded LimitExceededException ConcurrentTagAccess
            PendingSnapshotLimitExceeded ServiceQuotaExceededException TagLimitExceeded VPCResourceNotSpecified
            Client.VolumeLimitExceeded""",
        ),
        (
            WRONG_CREDENTIALS,
            """AuthFailure InvalidClientTokenId SignatureDoesNotMatch IncompleteSignature MissingAuthenticationToken
            MissingAuthenticationTokenException InvalidAccessKeyId InvalidSignatureException UnrecognizedClientException
            InvalidToken NotAuthorizedException IncompleteSignatureException InvalidSecurity InvalidX509""",
        ),
        (
            EXPIRED,
            """ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired IDPExpiredToken
            UnauthorizedException""",
        ),
        (
            NO_RIGHT,
            """UnauthorizedOperation AccessDenied AccessDeniedException NotAuthorized OperationNotPermitted Forbidden
            403 InvalidInstanceID.NotLinkable DependencyAccessDeniedException AllAccessDisabled
            OrganizationNotInAllFeaturesModeException""",
        ),
        (ACCOUNT_HELD, "OptInRequired PendingVerification Blocked SubscriptionRequiredException AccountProblem"),
        (
            TOO_MANY_CALLS,
            """RequestLimitExceeded Throttling ThrottlingException ThrottledException RequestThrottled
            RequestThrottledException TooManyRequestsException EC2ThrottledException SlowDown BandwidthLimitExceeded
            PriorRequestNotComplete TransactionInProgressException RequestResourceCountExceeded
            ProvisionedThroughputExceededException""",
        ),
        (
            THEIR_FAULT,
            """InternalError InternalFailure ServerInternal ServiceUnavailable Unavailable InternalServerException
            InternalErrorException ServiceException ServiceFailure ServiceUnavailableException RequestTimeout
            RequestTimeoutException 500 502 503 504""",
        ),
        (
            NOT_HERE,
            """InvalidAMIID.NotFound InvalidAMIID.Unavailable InvalidAMIID.Malformed InvalidAMIName.NotFound
            ParameterNotFound VPCIdNotSpecified DefaultVpcDoesNotExist DefaultSubnetDoesNotExistInAvailabilityZone
            InvalidSubnetID.NotFound InvalidSubnet InvalidVpcID.NotFound InvalidGroup.NotFound
            InvalidSecurityGroupID.NotFound MissingInput VolumeTypeNotAvailableInZone
            InvalidSnapshot.NotFound NoSuchResourceException InvalidKey.DoesNotExist KMSKeyNotAccessibleFault
            UnsupportedOperation UnsupportedOperationException Client.InvalidSnapshot.NotFound Client.InternalError""",
        ),
        (
            OUR_MISTAKE,
            """IdempotentParameterMismatch IdempotentInstanceTerminated DryRunOperation InvalidAction InvalidCharacter
            InvalidPaginationToken InvalidNextToken InvalidNextTokenException NextTokenInvalid
            ExpiredNextTokenException InvalidParameter InvalidParameterCombination InvalidParameterDependency
            InvalidParameterValue InvalidParameterException InvalidParameters InvalidQueryParameter
            MalformedQueryString MissingAction MissingParameter UnknownParameter UnknownPrincipalType.Unsupported
            ValidationError ValidationException InvalidInstanceID.NotFound InvalidInstanceID.Malformed
            InvalidInstanceID IncorrectInstanceState IncorrectState IncorrectSpotRequestState InvalidState
            OperationNotPermitted.Termination InvalidVolume.NotFound InvalidVolumeID.Malformed
            InvalidNetworkInterfaceID.NotFound InvalidNetworkInterface.InUse InvalidGroup.Duplicate
            InvalidGroup.InUse InvalidGroup.Reserved InvalidBlockDeviceMapping InvalidGroupId.Malformed
            InvalidSecurityGroupId.Malformed DependencyViolation CannotDelete InvalidPermission.Duplicate
            InvalidPermission.NotFound InvalidPermission.Malformed RulesPerSecurityGroupLimitExceeded
            InvalidIamInstanceProfileArn.Malformed InvalidIamInstanceProfileName.NotFound InvalidUserData.Malformed
            InvalidTagKey.Malformed InvalidFilter FilterLimitExceeded InvalidID ResourceNotFound
            ResourceNotFoundException ConflictException InvalidSpotInstanceRequestID.NotFound
            InvalidSpotInstanceRequestID.Malformed InvalidTime InvalidRequest MalformedPolicyDocument NoSuchEntity
            EntityAlreadyExists DeleteConflict ConcurrentModification UnmodifiableEntity InvalidInput
            PolicyNotAttachable IllegalLocationConstraintException NoSuchBucket NoSuchKey BucketAlreadyExists
            BucketAlreadyOwnedByYou InvalidBucketName PermanentRedirect TooManyBuckets OperationAborted 400 404 301
            ParseError InvalidCustomerOwnedIpv4PoolID.Malformed UnsupportedInstanceAttribute UnsupportedProtocol
            NoSuchVersion""",
        ),
    )
    for code in codes.split()
}

NO_VPC = "Run: aws ec2 create-default-vpc --region REGION, or choose another region with --region."
FIXES = {
    "InvalidBlockDeviceMapping": "Give the disk more room: resources.disk_gb in the job file; the image takes 75 GB.",
    "VPCIdNotSpecified": NO_VPC,
    "DefaultVpcDoesNotExist": NO_VPC,
    "InvalidIamInstanceProfileName.NotFound": "Run: gpulaunch init aws --apply",
    "Client.InternalError": "Let these credentials use the key (KMS) with which the account encrypts its disks.",
    "OptInRequired": "Enable the region in the account's settings, or choose another one with --region.",
}
"""Where a code has a better way out than its kind has."""

NEVER_RAN = {
    "Server.InsufficientInstanceCapacity": "There was not enough capacity to start the machine.",
    "Server.InternalError": "An error inside AWS ended the machine while it started.",
    "Client.VolumeLimitExceeded": "The account's limit for disks (EBS) in this region was reached.",
    "Client.InvalidSnapshot.NotFound": "The image's disk (a snapshot) was not found.",
    "Client.InternalError": "EC2 could not start the machine, mostly for a key that it may not use.",
}
"""What ends an instance during its launch, which was accepted (EC2 API reference, StateReason, 2026-11; of the last one
EC2 user guide, "Troubleshoot instance launch issues")."""

NEVER_SENT = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"})
"""The request never left this computer: nothing can have come of it."""

EXCEPTIONS: dict[str, Meaning] = {
    name: meaning
    for meaning, names in (
        (
            WRONG_CREDENTIALS,
            """NoCredentialsError PartialCredentialsError NoAuthTokenError UnknownTokenProviderError ConfigNotFound
            ConfigParseError ProfileNotFound CredentialRetrievalError UnknownCredentialError InvalidConfigError
            InfiniteLoopConfigError RefreshWithMFAUnsupportedError MetadataRetrievalError NoRegionError
            InvalidRegionError UnknownRegionError InvalidIMDSEndpointError InvalidIMDSEndpointModeError""",
        ),
        (
            EXPIRED,
            """TokenRetrievalError SSOError SSOTokenLoadError UnauthorizedSSOTokenError LoginError LoginTokenLoadError
            LoginRefreshRequired LoginAuthorizationCodeError LoginInsufficientPermissions""",
        ),
        (
            NO_NETWORK,
            """HTTPClientError ConnectionError EndpointConnectionError SSLError ConnectionClosedError ReadTimeoutError
            ConnectTimeoutError ProxyConnectionError ResponseStreamingError IncompleteReadError ChecksumError
            FlexibleChecksumError EventStreamError InvalidProxiesConfigError""",
        ),
        (THEIR_FAULT, "ClientError BotoCoreError CapacityNotAvailableError WaiterError PaginationError"),
        (
            NOT_INSTALLED,
            """DataNotFoundError UnknownServiceError ApiVersionNotFoundError UnknownServiceStyle ServiceNotInRegionError
            UnknownClientMethodError OperationNotPageableError MissingDependencyException MD5UnavailableError
            UnknownSignatureVersionError UnsupportedSignatureVersionError UndefinedModelAttributeError
            MissingServiceIdError UnsupportedServiceProtocolsError""",
        ),
        (
            OUR_MISTAKE,
            """BaseEndpointResolverError EndpointVariantError UnknownEndpointError UnknownFIPSEndpointError
            MissingParametersError ValidationError ParamValidationError UnknownKeyError RangeError UnknownParameterError
            AliasConflictParameterError UnseekableStreamError InvalidExpressionError WaiterConfigError
            InvalidDNSNameError InvalidS3AddressingStyleError UnsupportedS3ArnError UnsupportedS3ControlArnError
            InvalidHostLabelError UnsupportedOutpostResourceError UnsupportedS3ConfigurationError
            UnsupportedS3AccesspointConfigurationError InvalidEndpointDiscoveryConfigurationError
            UnsupportedS3ControlConfigurationError InvalidRetryConfigurationError InvalidMaxRetryAttemptsError
            InvalidRetryModeError InvalidS3UsEast1RegionalEndpointConfigError InvalidSTSRegionalEndpointsConfigError
            StubResponseError StubAssertionError UnStubbedResponseError InvalidDefaultsMode AwsChunkedWrapperError
            InvalidEndpointConfigurationError EndpointProviderError EndpointResolutionError
            UnknownEndpointResolutionBuiltInName InvalidChecksumConfigError""",
        ),
    )
    for name in names.split()
}
"""botocore's exceptions by the name of their class. One that is not here counts as its nearest parent that is."""

LONGEST_WHY = 400
"""EC2 adds an encoded message of a thousand characters to a missing right."""


def translate(error: Exception, doing: str, *, profile: str | None = None, changes: bool = False) -> ProviderError:
    """The error of providers.base that says it, with AWS's own code.

    `changes`: the call may have made something; where its fate is not known, that is an AmbiguousOutcome.
    """
    code, meaning = _read(error)
    fix = FIXES.get(code, meaning.fix)
    if meaning is EXPIRED:
        fix = f"Run: aws sso login{f' --profile {profile}' if profile else ''}, or renew your session's keys."
    kind = meaning.error
    if changes and kind is ProviderUnavailable and code not in NEVER_SENT:
        kind, fix = AmbiguousOutcome, "It is asked again by itself, with the same token."
    return kind(f"{doing} failed: {code}.", _said(error), fix, code=code, next_scope=meaning.next_scope)


def never_ran(code: str | None) -> ProviderError | None:
    """The failed launch that an instance's state reason tells of; None for any other end."""
    if code not in NEVER_RAN:
        return None
    meaning = CODES[code]
    fix = FIXES.get(code, meaning.fix)
    return meaning.error(NEVER_RAN[code], fix=fix, code=code, next_scope=meaning.next_scope)


def _read(error: Exception) -> tuple[str, Meaning]:
    """The code and what it means: of AWS's reply where there is one, else the exception's own name."""
    reply: dict[str, Any] = getattr(error, "response", None) or {}
    code = str(reply.get("Error", {}).get("Code") or "")
    if not code:
        names = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in EXCEPTIONS]
        return type(error).__name__, EXCEPTIONS[names[0]] if names else THEIR_FAULT
    if code in CODES:
        return code, CODES[code]
    return code, _by_status(int(reply.get("ResponseMetadata", {}).get("HTTPStatusCode") or 500))


def _by_status(status: int) -> Meaning:
    """What a code that is in no table can mean, by the HTTP status beside it."""
    if status >= 500:
        return THEIR_FAULT
    if status == 429:
        return TOO_MANY_CALLS
    return NO_RIGHT if status in (401, 403) else Meaning(InvalidRequest, "provider")


def _said(error: Exception) -> str:
    reply: dict[str, Any] = getattr(error, "response", None) or {}
    said = str(reply.get("Error", {}).get("Message") or error).strip()
    if len(said) > LONGEST_WHY:
        said = f"{said[:LONGEST_WHY]}…"
    return said if said.endswith((".", "…")) else f"{said}."
