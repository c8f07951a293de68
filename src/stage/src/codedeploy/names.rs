//! Names, ids and ARNs, checked in CodeDeploy's words.

use super::refuse;
use crate::wire::ApiError;

/// Applications, groups and configurations: 1–100 of letters, digits and `. _ + = , @ -`.
fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+=,@-".contains(&b))
}

/// The name of an application.
pub(super) fn application(name: Option<&str>) -> Result<&str, ApiError> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
        refuse(
            "ApplicationNameRequiredException",
            "The required application name is missing",
        )
    })?;
    if is_name(name) {
        return Ok(name);
    }
    Err(refuse(
        "InvalidApplicationNameException",
        "Application name must be 1 to 100 letters, digits and . _ + = , @ -",
    ))
}

/// The name of a deployment group.
pub(super) fn group(name: Option<&str>) -> Result<&str, ApiError> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
        refuse(
            "DeploymentGroupNameRequiredException",
            "The required deployment group name is missing",
        )
    })?;
    if is_name(name) {
        return Ok(name);
    }
    Err(refuse(
        "InvalidDeploymentGroupNameException",
        "Deployment group name must be 1 to 100 letters, digits and . _ + = , @ -",
    ))
}

/// The name of a deployment configuration.
pub(super) fn config(name: Option<&str>) -> Result<&str, ApiError> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
        refuse(
            "DeploymentConfigNameRequiredException",
            "The required deployment configuration name is missing",
        )
    })?;
    if is_name(name) {
        return Ok(name);
    }
    Err(refuse(
        "InvalidDeploymentConfigNameException",
        "Deployment configuration name must be 1 to 100 letters, digits and . _ + = , @ -",
    ))
}

/// The id of a deployment: `d-` and nine capital letters and digits.
pub(super) fn deployment(id: Option<&str>) -> Result<&str, ApiError> {
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
        refuse(
            "DeploymentIdRequiredException",
            "The required deployment ID is missing",
        )
    })?;
    let valid = id.strip_prefix("d-").is_some_and(|rest| {
        rest.len() >= 9
            && rest
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    });
    if valid {
        return Ok(id);
    }
    Err(refuse(
        "InvalidDeploymentIdException",
        format!("The specified deployment ID '{id}' was not in a valid format"),
    ))
}

/// A new deployment's id.
pub(super) fn new_deployment_id() -> String {
    const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let random: [u8; 9] = rand::random();
    let mut id = "d-".to_owned();
    id.extend(random.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])));
    id
}

pub(super) fn no_application(name: &str, account: &str) -> ApiError {
    refuse(
        "ApplicationDoesNotExistException",
        format!("Applications not found for {account}: no application named '{name}'"),
    )
}

pub(super) fn no_group(name: &str) -> ApiError {
    refuse(
        "DeploymentGroupDoesNotExistException",
        format!("No Deployment Group found for name: {name}"),
    )
}

pub(super) fn no_config(name: &str) -> ApiError {
    refuse(
        "DeploymentConfigDoesNotExistException",
        format!("No Deployment Configuration found for name: {name}"),
    )
}

pub(super) fn no_deployment(id: &str) -> ApiError {
    refuse(
        "DeploymentDoesNotExistException",
        format!("The deployment {id} could not be found"),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_alphabet_and_a_length() {
        assert_eq!(
            application(Some("a.b_c+d=e,f@g-h1")).unwrap(),
            "a.b_c+d=e,f@g-h1"
        );
        assert_eq!(
            application(None).unwrap_err().name,
            "ApplicationNameRequiredException"
        );
        assert_eq!(
            application(Some("")).unwrap_err().name,
            "ApplicationNameRequiredException"
        );
        assert_eq!(
            application(Some("a b")).unwrap_err().name,
            "InvalidApplicationNameException"
        );
        let long = "a".repeat(101);
        assert_eq!(
            group(Some(&long)).unwrap_err().name,
            "InvalidDeploymentGroupNameException"
        );
    }

    #[test]
    fn deployment_ids_look_like_codedeploys() {
        let id = new_deployment_id();
        assert_eq!(deployment(Some(&id)).unwrap(), id);
        assert_eq!(id.len(), 11);
        for bad in ["d-", "d-abc", "x-ABCDEFGHI", "d-ABCDEFGH"] {
            assert_eq!(
                deployment(Some(bad)).unwrap_err().name,
                "InvalidDeploymentIdException"
            );
        }
    }
}
