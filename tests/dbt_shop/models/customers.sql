{{ config(materialized="table", schema="Marts", alias="Customer_Facts") }}
select contacts.id as customer_id, contacts.email
from {{ source("crm", "Contacts") }} as contacts
join {{ ref("paid_orders") }} as paid on paid.customer_id = contacts.id
