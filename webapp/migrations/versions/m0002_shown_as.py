"""What was shown, and how fast somebody's connection is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("answers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rendition", sa.String(length=40), nullable=True))
    with op.batch_alter_table("people", schema=None) as batch_op:
        batch_op.add_column(sa.Column("connection_mbps", sa.Double(), nullable=True))


def downgrade() -> None:
    """Change the tables back."""
    with op.batch_alter_table("people", schema=None) as batch_op:
        batch_op.drop_column("connection_mbps")
    with op.batch_alter_table("answers", schema=None) as batch_op:
        batch_op.drop_column("rendition")
