# One key for what is worth a secret: database, secrets, logs, the hook's environment.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

resource "aws_kms_key" "this" {
  description             = "Database, secrets and logs of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = var.protect ? 30 : 7
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

# A key's own policy: `*` is this key. Without the first statement IAM has no say in it, and a key
# that nobody may administer cannot be deleted either (KMS developer guide, Default key policy).
data "aws_iam_policy_document" "key" {
  #checkov:skip=CKV_AWS_109:the account administers its key
  #checkov:skip=CKV_AWS_111:the account administers its key
  #checkov:skip=CKV_AWS_356:in a key policy `*` is the key itself
  statement {
    sid       = "AccountByIam"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.this.partition}:iam::${data.aws_caller_identity.this.account_id}:root"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${data.aws_region.this.name}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${data.aws_partition.this.partition}:logs:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:*"]
    }
  }
}
